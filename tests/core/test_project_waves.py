"""A project in waves, from its file to the dataset, with the embedded models."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

from character_curator import pipeline, project
from character_curator.dataset.checksums import exported_checksums
from character_curator.imageset import ImageSet
from character_curator.project import ProjectFileError
from tests.support.small_run import EVERYTHING_PASSES

PROJECT = (
    """\
[project]
name = "small"
output = "out"

[model]
steps = 2
batch_size = 4

[plan]
seeds = [966983, 966984, 966985, 966986]
takes = 4
template = "portrait of a {description}, {scenario}"

[waves]
size = 8
images = 64
gain = 0.02

[[subjects]]
name = "char1"
trigger = "char1"
description = "freckled woman, wavy red hair, green eyes, fair skin"

[[originals]]
number = 1
name = "studio"
prompt = "neutral background, studio lighting, frontal view, close-up"

[[scenarios]]
number = 33
name = "bar"
category = "professional"
prompt = "black blazer, bar background, golden hour lighting, frontal view, bust"

"""
    + EVERYTHING_PASSES
    + """[selection]
total = 8
quotas = ["kind=original:4,scenario:4", "seed=2"]
"""
)


class Killed:
    """A watcher who stops the run at some image."""

    def __init__(self, images):
        self.left = images

    def start(self, stage, total):
        pass

    def advance(self, n=1, note=""):
        if n == 1 and note.endswith(".png"):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def finish(self):
        pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a break: its folder, its outcome, and what was said."""
    base = tmp_path_factory.mktemp("whole")
    notes = []
    outcome = pipeline.run(project.parse(PROJECT), base, on_notes=notes.extend)
    return base, outcome, notes


def test_only_what_is_needed_is_made_and_that_is_said(whole):
    base, outcome, notes = whole
    made = ImageSet.read(base / "out/images.parquet").table
    assert outcome.selection.met
    assert len(made) == len(list((base / "out/raw").glob("*.png"))) <= 40
    assert len(notes) == 1
    assert notes[0].startswith(f"{len(made)} images in ")
    assert made["wave"].null_count() == 0
    assert made["wave"].max() >= 1
    ledger = json.loads((base / "out/waves.json").read_text())
    assert len(ledger["images"]) == len(made)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bytes(whole, tmp_path):
    _base, outcome, _ = whole
    parsed = project.parse(PROJECT)
    # The first wave has 8 images, or a few more: this is within the second, where there is one.
    for images in (3, 11):
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(parsed, tmp_path, progress=Killed(images))
    again = pipeline.run(parsed, tmp_path)
    assert exported_checksums(again.exported.folder) == exported_checksums(outcome.exported.folder)


def test_more_is_wanted_later(whole, tmp_path):
    shutil.copytree(whole[0] / "out", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out/raw").glob("*.png")}
    larger = PROJECT.replace("total = 8", "total = 16").replace(
        'quotas = ["kind=original:4,scenario:4", "seed=2"]',
        'quotas = ["kind=original:8,scenario:8", "seed=4"]',
    )
    outcome = pipeline.run(project.parse(larger), tmp_path)
    assert outcome.selection.met
    assert len(outcome.selection) == 16
    assert len(outcome.images) > len(before)
    assert all(path.read_bytes() == data for path, data in before.items())
    waves = outcome.images.table.filter(pl.col("path").is_in([path.name for path in before]))
    assert waves["wave"].max() <= whole[1].images.table["wave"].max()


def test_no_machine_makes_a_part(tmp_path):
    with pytest.raises(ProjectFileError, match="without --shard"):
        pipeline.generate(project.parse(PROJECT), tmp_path, shard=(0, 2))


def test_waves_need_a_plan():
    with pytest.raises(ProjectFileError, match=r"needs a \[plan\]"):
        project.parse('source = "photos"\n[waves]\nsize = 8\n')
