"""Commands beside full disks, cut power, folders that go and company: an error, and no harm."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.support.faults.cuts import CUT, Recording
from tests.support.faults.disk import JOURNAL, STRICT, Disk
from tests.support.faults.kills import Bench
from tests.support.faults.misfortunes import KINDS, every_write, meets, tried
from tests.support.faults.recording import STRACE, Call
from tests.support.faults.stages import STAGES
from tests.support.faults.warm import Warm
from tests.support.tiny_analysis import needs_miniature_faces

pytestmark = [
    needs_miniature_faces,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    with Warm(tmp_path_factory.mktemp("said")) as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in STAGES for kind in KINDS if meets(STAGES[name], kind)],
)
def test_an_error_and_no_harm(warm, tmp_path, name, kind):
    bench = Bench(warm, STAGES[name], tmp_path)
    made = [tried(bench, kind, seed) for seed in (50, 51)]
    assert [one for one in made if one["faults"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["captions", "curate"])
def test_a_disk_that_is_full_at_any_write(warm, tmp_path, name):
    bench = Bench(warm, STAGES[name], tmp_path)
    made = list(every_write(bench, range(3, len(bench.undisturbed.operations), 7)))
    assert any(one["code"] == 2 for one in made)
    assert [one for one in made if one["faults"]] == []


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("name", CUT)
def test_a_power_cut_costs_time_alone(warm, tmp_path, name):
    made = Recording(Bench(warm, STAGES[name], tmp_path)).cut(20, seed=50, resume_every=5)
    assert len(made) == 20
    assert [cut for cut in made if cut["faults"]] == []


@pytest.mark.slow
@needs_strace
def test_the_cuts_find_what_is_not_synced(warm, tmp_path):
    bench = Bench(warm, replace(STAGES["curate"], before=()), tmp_path)
    made = Recording(bench, sync=False).cut(60, seed=5, resume_every=100)
    assert [cut for cut in made if cut["faults"]]


def call(name, *arguments, result=5):
    """Return a call as strace writes it: strings of bytes in hexadecimal."""
    written = [
        '"' + "".join(f"\\x{byte:02x}" for byte in part) + '"' if isinstance(part, bytes) else part
        for part in arguments
    ]
    return Call(name, tuple(map(str, written)), result)


@pytest.mark.parametrize("kind", [JOURNAL, STRICT])
@pytest.mark.parametrize("synced", [True, False])
def test_a_disk_forgets_what_was_not_synced(tmp_path, kind, synced):
    place, left, new = tmp_path / "work", tmp_path / "left", b"after" * 300
    place.mkdir()
    (place / "a").write_bytes(b"before")
    replaced = [
        call("open", b"t", "O_WRONLY|O_CREAT"),
        call("write", 5, new, result=len(new)),
        *([call("fsync", 5)] if synced else []),
        call("close", 5),
        call("rename", b"t", b"a"),
    ]
    disk = Disk(place, kind)
    disk.apply(replaced)
    found = set()
    for seed in range(60):  # the name may have reached the disk by itself, or not
        disk.after_a_cut(left, seed)
        found.add((left / "a").read_bytes())
    assert {b"before", new} <= found
    assert (found == {b"before", new}) is synced
    disk.apply([call("open", b".", "O_RDONLY"), call("fsync", 5)])
    found = set()
    for seed in range(60):
        disk.after_a_cut(left, seed)
        assert [path.name for path in left.iterdir()] == ["a"]
        found.add((left / "a").read_bytes())
    assert (found == {new}) is synced
    assert b"before" not in found
