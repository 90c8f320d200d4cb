"""Versions of an export, and what is left when one is interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from character_curator.dataset import export, verify
from character_curator.dataset.checksums import write_checksums
from character_curator.dataset.publish import OutputError, recover, versions
from character_curator.imageset import ImageSet
from tests.support.images import make_images

ROOT = Path(__file__).parents[3]


def test_exporting_again_keeps_the_version_before(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)
    output = tmp_path / "set"
    first = export(images, output, name="x")
    assert (first.version, first.previous, first.unchanged) == (1, None, False)
    sums = (output / "SHA256SUMS").read_bytes()
    same = export(images, output, name="x")
    assert (same.version, same.previous, same.unchanged) == (1, None, True)
    second = export(images, output, name="y")
    assert (second.version, second.previous) == (2, tmp_path / "set.versions" / "v0001")
    assert (second.previous / "SHA256SUMS").read_bytes() == sums
    assert verify(second.previous).ok
    assert verify(output).ok
    third = export(images, output, name="z")
    assert third.version == 3
    assert [p.name for p in versions(output)] == ["v0001", "v0002"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw", "set", "set.versions"]


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    images = make_images(tmp_path / "raw", 4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file", "raw"):
        with pytest.raises(OutputError):
            export(images, tmp_path / name, name="x")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert export(images, tmp_path / "empty", name="x").version == 1


def test_two_exports_to_one_place_do_not_mix(tmp_path):
    images = make_images(tmp_path / "raw", 4)

    class Second:
        error: Exception | None = None

        def start(self, stage, total):
            try:
                export(images, tmp_path / "out", name="second")
            except OutputError as error:
                self.error = error

        def advance(self, n=1, note=""):
            pass

        def finish(self):
            pass

    watcher = Second()
    done = export(images, tmp_path / "out", name="first", progress=watcher)
    assert "is running" in str(watcher.error)
    assert verify(done.folder).ok
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_every_file_reaches_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.delenv("CURATOR_FSYNC", raising=False)
    place, done = tmp_path / "out", []

    def synced(handle):
        done.append((os.fstat(handle).st_ino, place.is_dir()))

    monkeypatch.setattr("character_curator.atomic.os.fsync", synced)
    export(make_images(tmp_path / "raw"), place, name="x")
    before = {inode for inode, there in done if not there}
    wanted = {path.stat().st_ino for path in [place, *place.rglob("*")]}
    assert wanted <= before
    assert (tmp_path.stat().st_ino, True) in done, "the name of the folder itself"


def test_a_cancel_leaves_nothing(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)

    class Cancel:
        def start(self, stage, total):
            assert total == 6

        def advance(self, n=1, note=""):
            raise KeyboardInterrupt

        def finish(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        export(images, tmp_path / "out", name="x", progress=Cancel())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from character_curator.dataset.exporting import export
from character_curator.imageset import ImageSet
place, at = Path({place!r}), {at}
images = ImageSet.read(place / "images.parquet")
count, renames = 0, []
def watch(event, arguments):
    # Every step that changes the file system; the process ends before the step numbered 'at'.
    global count
    if event == "open":
        changes = ".tmp-" in str(arguments[0]) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    else:
        changes = event in ("os.rename", "os.link", "os.mkdir", "os.remove", "shutil.rmtree")
    if changes and str(arguments[0]).startswith(str(place)):
        count += 1
        if event == "os.rename":
            renames.append(count)
        if count == at:
            os._exit(9)
sys.addaudithook(watch)
export(images, place / "set", name="new")
print(count, *renames)
"""


def run_killed(place, at):
    code = KILLED.format(root=str(ROOT), place=str(place), at=at)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_killed_before_any_step_nothing_is_half_done(tmp_path):
    (tmp_path / "base").mkdir()
    images = make_images(tmp_path / "base" / "raw", 6, selected=2)
    images.write(tmp_path / "base" / "images.parquet")
    base = tmp_path / "base"
    old = export(images, base / "set", name="old")
    old_sums = (old.folder / "SHA256SUMS").read_bytes()
    whole = shutil.copytree(base, tmp_path / "whole")
    ImageSet(images.table, whole / "raw").write(whole / "images.parquet")
    undisturbed = run_killed(whole, 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    steps, *renames = map(int, undisturbed.stdout.split())
    # The list of checksums, the old folder, the new folder; the copied folder's two images of both
    # versions become one file again.
    assert len(renames) == 5
    new_sums = (whole / "set" / "SHA256SUMS").read_bytes()
    assert new_sums != old_sums
    absent = 0
    # Halfway, before each of the renames that make a dataset whole and move it, and at the end.
    for at in [steps // 2, *renames, steps]:
        place = shutil.copytree(base, tmp_path / f"at-{at}")
        ImageSet(images.table, place / "raw").write(place / "images.parquet")
        assert run_killed(place, at).returncode == 9
        final = place / "set"
        if final.exists():
            assert verify(final).ok
            assert not verify(final).unlisted
            assert (final / "SHA256SUMS").read_bytes() in (old_sums, new_sums)
        else:
            absent += 1
        kept = ImageSet.read(place / "images.parquet")
        done = export(kept, final, name="new")
        assert (final / "SHA256SUMS").read_bytes() == new_sums
        assert verify(final).ok
        assert done.version == 2
        assert [(p / "SHA256SUMS").read_bytes() for p in versions(final)] == [old_sums]
        assert [verify(p) for p in versions(final)] == [verify(old.folder)]
        for image in final.glob("*.png"):
            assert image.samefile(versions(final)[0] / image.name)
        left = sorted(p.name for p in place.iterdir())
        assert left == ["images.parquet", "raw", "set", "set.versions"]
    assert absent == 1


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    images = make_images(tmp_path / "raw", 6, selected=3)
    images.write(tmp_path / "images.parquet")
    # The kernel refuses to let a file grow beyond 2 kB, as it refuses on a full disk.
    code = f"""
import resource, sys
from character_curator.dataset.exporting import export
from character_curator.dataset.publish import DiskFullError
from character_curator.imageset import ImageSet
images = ImageSet.read({str(tmp_path / "images.parquet")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    export(images, {str(tmp_path / "out")!r}, name="x")
except DiskFullError as error:
    print(error)
"""
    pytest.importorskip("resource")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "The disk is full" in result.stdout, result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images.parquet", "raw"]


def test_a_version_number_is_never_given_twice(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=6)
    output = tmp_path / "set"
    for name in "abc":
        export(images, output, name=name)
    shutil.rmtree(versions(output)[0])
    assert export(images, output, name="d").previous.name == "v0003"
    for number in (9999, 10000):
        (tmp_path / "set.versions" / f"v{number}").mkdir()
    assert [p.name for p in versions(output)] == ["v0002", "v0003", "v9999", "v10000"]


@pytest.mark.parametrize("lost", ["nothing", "the list", "what a file held"])
def test_only_a_whole_folder_that_a_kill_has_left_is_taken(tmp_path, lost):
    left, whole = tmp_path / ".set.tmp-0badcafe", lost == "nothing"
    left.mkdir()
    (left / "metadata.json").write_text("{}")
    if lost != "the list":
        write_checksums(left)
    if lost == "what a file held":  # as after a power cut
        (left / "metadata.json").write_text("")
    recover(tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == (["set"] if whole else [])


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_one_fault_alone_is_not_ok(tmp_path, fault):
    done = export(make_images(tmp_path / "raw", 4), tmp_path / "set", name="x")
    card = done.folder / "README.md"
    card.unlink() if fault == "missing" else card.write_text("mine")
    found = verify(done.folder)
    assert getattr(found, fault) == ("README.md",)
    assert not found.ok
