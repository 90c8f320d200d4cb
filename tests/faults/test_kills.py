"""Commands that are killed and run again: the end is that of a run that nobody disturbed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from tests.support.faults.kills import Bench, said_of
from tests.support.faults.stages import STAGES
from tests.support.faults.trees import contents, differences, faults
from tests.support.faults.warm import Warm
from tests.support.tiny_analysis import needs_miniature_faces

pytestmark = [
    needs_miniature_faces,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]
FIRST = replace(STAGES["curate"], before=())


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    with Warm(tmp_path_factory.mktemp("said")) as started:
        yield started


@pytest.fixture(scope="module")
def curated(warm, tmp_path_factory):
    return Bench(warm, FIRST, tmp_path_factory.mktemp("curated"))


def test_a_handful_of_kills_leaves_no_trace(curated):
    made = curated.chain(seed=3, length=4)
    assert len(made.kills) >= 3
    assert made.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_chains_of_kills_leave_no_trace(warm, tmp_path, name):
    bench = Bench(warm, STAGES[name], tmp_path)
    made = [bench.chain(seed) for seed in (100, 101)]
    assert [said for chain in made for said in chain.faults] == []
    assert sum(len(chain.kills) for chain in made) > 4


def test_what_is_half_or_another_is_seen(curated, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(curated.folder, folder)
    assert faults(folder, ["out"]) == []
    assert differences(contents(folder), curated.expected) == []
    image = next((folder / "out").glob("*.png"))
    data = image.read_bytes()
    image.unlink()  # it is a link to the source
    image.write_bytes(data[: len(data) // 2])
    (folder / "out/README.md").unlink()
    (folder / "out/facts.json").write_text("{")
    (folder / ".0123456789abcdef.tmp").touch()
    said = faults(folder, ["out"])
    assert sum(f"out/{image.name} is not whole" in one for one in said) == 1
    assert sum("out/facts.json is not whole" in one for one in said) == 1
    assert sum("half a dataset" in one and "README.md" in one for one in said) == 1
    said = differences(contents(folder) | {"out/more": ""}, curated.expected)
    assert said == [
        "out/README.md is missing", ".0123456789abcdef.tmp is left over", "out/more is left over",
        "out/facts.json is another", f"out/{image.name} is another",
    ]  # fmt: skip


def test_who_outlives_a_command_is_seen_and_ended(warm, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.support.faults.warm.SOON", 0.2)
    sleeper = "import subprocess; subprocess.Popen(['sleep', '100'])"
    ended = warm.run(["--version"], tmp_path, first=sleeper)
    assert len(ended.outlived) == 1
    assert ended.outlived[0].endswith("sleep 100")
    assert said_of(ended, "a run") == [f"a run: {ended.outlived[0]} has outlived it"]
    assert warm.run(["--version"], tmp_path).outlived == ()
