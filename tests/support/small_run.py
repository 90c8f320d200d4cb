"""A run from nothing to a LoRA with the embedded models, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

from character_curator import pipeline, project
from character_curator.hashing import sealed, unsealed
from character_curator.training import LoraJob, TrainingSettings
from character_curator.training.finished import FINISHED, train_once

EVERYTHING_PASSES = """\
[faces]
minimum_confidence = 0.0
minimum_share = 0.0
minimum_side = 0.0

[quality]
minimum = 0.0

[clusters]
count = 2

[duplicates]
threshold = 1.0

"""
"""Sections of a project in which every image with a face is a candidate."""

PROJECT = """\
[project]
name = "small"
output = "out"

[model]
path = "miniature"
steps = 8
guidance = 2.5
width = 128
height = 128
batch_size = 4

[plan]
seeds = [966983, 966984]
takes = 1
template = "portrait of a {description}, {scenario}"
caption = "portrait of {trigger} {class_word}, {scenario}"

[[subjects]]
name = "char1"
trigger = "char1"
class_word = "woman"
description = "gentle freckled woman, wavy red hair, green eyes, fair skin"

[[originals]]
number = 1
name = "studio"
category = "original"
prompt = "gray t-shirt, neutral background, studio lighting, frontal view, close-up"

[[scenarios]]
number = 26
name = "park"
category = "casual"
prompt = "green hoodie, warm smile, park background, soft daylight, frontal view, close-up"

[[scenarios]]
number = 33
name = "bar"
category = "professional"
prompt = "black blazer, gentle smile, bar background, golden hour lighting, frontal view, bust"

[faces]
minimum_confidence = 0.5

[quality]
minimum = 0.4

[clusters]
count = 2

[selection]
total = 4
quotas = ["seed=2"]
"""


SETTINGS = TrainingSettings(
    targets="attention",
    rank=4,
    alpha=4.0,
    learning_rate=3e-3,
    batch_size=2,
    epochs=8,
    schedule="cosine",
    resolution=128,
    bucket_step=32,
    validation_share=0.25,
    validation_timesteps=1,
)


def run_small(folder: Path) -> Path:
    """Generate, curate and train in a folder; return it.

    The dataset is ``out/dataset``, the LoRA ``out/small.safetensors``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.toml").write_text(PROJECT)
    made = pipeline.run(project.parse(PROJECT), folder)
    job = LoraJob(made.exported.folder, folder / "out" / "small.safetensors", samples=None)
    train_once(job, SETTINGS)
    # So few steps settle on nothing: the noted losses become those of a training that has.
    path = job.folder / FINISHED
    noted = unsealed(json.loads(path.read_text()))
    for report in noted["outcome"]["history"]:
        report["validation_loss"] = 0.06 + 0.04 * 0.5 ** report["epoch"]
    path.write_text(json.dumps(sealed(noted)))
    return folder
