"""Readers of texts: projects, quotas, decisions, captions, settings, lists of tags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from character_curator.analysis.calibration import Calibration
from character_curator.captions.table import read_table
from character_curator.captions.taggers import read_tags
from character_curator.imageset import SCHEMA, ImageSet
from character_curator.plan import MOST_IMAGES
from character_curator.project import parse
from character_curator.project_parts import decisions_of, plan_of, with_output
from character_curator.selection import Quota, select
from character_curator.selection.decisions import Decisions
from character_curator.toml_lines import recipe_toml
from character_curator.training.data.examples import read_examples
from tests.support.fuzzing.mutation import damaged, json_damaged, toml_damaged
from tests.support.fuzzing.targets import Target
from tests.support.images import drawing

PROJECT = """
[project]
name = "small"
output = "out"
[model]
path = "miniature"
batch_size = 2
steps = 4
[plan]
seeds = [1, 2]
takes = 1
caption = "{trigger}, {scenario}"
template = "{trigger} {description}, {scenario}"
[[subjects]]
name = "char1"
trigger = "char1"
description = "woman"
[[originals]]
number = 1
name = "front"
prompt = "portrait"
[[scenarios]]
number = 1
name = "a"
prompt = "park"
category = "casual"
[faces]
detection_size = 64
minimum_confidence = 0.5
[quality]
minimum = 0.3
[clip]
model = "miniature"
pretrained = ""
[clusters]
count = 2
random_state = 0
[duplicates]
threshold = 0.98
[crop]
framing = "bust"
aspect = "3:4"
[selection]
total = 2
quotas = ["seed=1", "category=casual:1"]
decisions = "decisions.json"
[dataset]
license = "cc0-1.0"
trigger = "char1"
layout = "flat"
[training]
rank = 4
epochs = 2
prompts = ["a park", "a beach"]
"""
HASHES = [f"{number:02x}" * 32 for number in range(12)]
DECISIONS = {
    "format": 1,
    "decisions": [
        {"hash": HASHES[1], "decision": "keep", "name": "a.png"},
        {"hash": HASHES[2], "decision": "veto", "name": "b.png"},
        {"hash": HASHES[3], "decision": "veto"},
    ],
}
QUOTAS = (
    "seed=1", "cluster=0..2", "pose=frontal:3,profile:1", "framing=bust:50%..", "kind=40%..",
    "seed=0:2,1:1..,2:..4", "category=casual:50%,style:50%", "seed=3%..50.5%",
)  # fmt: skip


def project_target() -> Target:
    """Return the target of project files: whatever is accepted is planned and written again."""

    def read(folder, data):
        project = parse(data.decode("utf-8", "replace"), "project.toml")
        project = with_output(project, folder / "out")
        if project.plan is not None:
            plan = plan_of(project)
            assert sum(1 for _, _ in zip(plan.requests(), range(50), strict=False)) <= MOST_IMAGES
        (folder / "decisions.json").write_text(json.dumps(DECISIONS))
        decisions_of(project, folder)
        again = recipe_toml(project.model_dump(exclude_none=True, exclude_defaults=True))
        parse(again, "again")

    return Target("project", lambda folder: [PROJECT.encode()], toml_damaged, read)


def candidates() -> ImageSet:
    """Return a table of twelve images that quotas can be about."""
    rng = np.random.default_rng(0)
    rows = {
        "path": [f"{number:02}.png" for number in range(12)],
        "hash": HASHES,
        "kind": ["scenario"] * 12,
        "seed": [number % 3 for number in range(12)],
        "category": ["casual", "style", None] * 4,
        "cluster": pl.Series([number % 4 for number in range(12)], dtype=pl.Int32),
        "pose": ["frontal", "profile"] * 6,
        "framing": ["bust"] * 12,
        "quality": rng.random(12),
    }
    empty = {name: pl.Series([None] * 12, dtype=kind) for name, kind in SCHEMA.items()}
    return ImageSet(pl.DataFrame(empty | rows), Path())


def quota_target() -> Target:
    """Return the target of quotas, which are then met, or said not to be."""

    def read(folder, data):
        quota = Quota.parse(data.decode("utf-8", "surrogateescape"))
        assert str(quota)
        found = select(candidates(), 4, [quota])
        assert sum(found.images.table["selected"]) <= 4

    return Target("quota", lambda folder: [q.encode() for q in QUOTAS], damaged, read)


def decisions_target() -> Target:
    """Return the target of decisions, which a selection then follows."""

    def read(folder, data):
        path = folder / "decisions.json"
        path.write_bytes(data)
        found = Decisions.read(path)
        select(candidates(), 4, [Quota("seed", maximum=2)], decisions=found)
        assert Decisions.parse(found.to_json()) == found

    return Target("decisions", lambda folder: [json.dumps(DECISIONS).encode()], json_damaged, read)


def caption_target() -> Target:
    """Return the target of captions beside images, read for the table, training and edits."""

    def seeds(folder):
        drawing(1, 24).save(folder / "image.png")
        text = "char1, a café in Zürich, 写真"
        codes = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
        return [text.encode(code) for code in codes] + ["Zürich, a park".encode("cp1252")]

    def read(folder, data):
        (folder / "image.txt").write_bytes(data)
        ImageSet.from_folder(folder)
        read_table(folder)
        read_examples(folder, caption="a")
        read_examples(folder)

    return Target("caption", seeds, damaged, read)


def calibration_target() -> Target:
    """Return the target of a face pack's calibration."""
    whole = Calibration(((0.2, 0.5), (0.4, 0.85), (0.6, 0.95)), identity=0.3, source="x")

    def read(folder, data):
        (folder / "calibration.json").write_bytes(data)
        found = Calibration.read(folder)
        assert np.isfinite(found.confidence([0.1, 0.5, 0.9])).all()

    return Target("calibration", lambda folder: [whole.to_json().encode()], json_damaged, read)


def tags_target() -> Target:
    """Return the target of a tagger's list of tags."""
    text = "tag_id,name,category,count\n1,1girl,0,5\n2,smile,0,4\n3,rating,9,1\n"

    def read(folder, data):
        (folder / "selected_tags.csv").write_bytes(data)
        read_tags(folder / "selected_tags.csv")

    return Target("tags", lambda folder: [text.encode()], damaged, read)


def settings_target() -> Target:
    """Return the target of training settings and options, as a graph gives them."""
    from character_curator.captions.settings import caption_settings
    from character_curator.training.settings import TrainingSettings

    text = 'rank = 4\nlearning_rate = 1e-3\nschedule = "cosine"\nepochs = 3\ntargets = ["to_q"]\n'

    def read(folder, data):
        from character_curator.toml_lines import TomlError, tables

        try:
            values = tables(data.decode("utf-8", "replace"))
        except TomlError as error:
            return str(error)
        for settings in (TrainingSettings.from_mapping, caption_settings):
            try:
                found = settings(values)
            except CuratorError:
                continue
            assert found.model_dump()
        return None

    from character_curator.errors import CuratorError

    return Target("settings", lambda folder: [text.encode()], toml_damaged, read)


def targets() -> list[Target]:
    """Return the targets of texts."""
    return [
        project_target(), quota_target(), decisions_target(), caption_target(),
        calibration_target(), tags_target(), settings_target(),
    ]  # fmt: skip
