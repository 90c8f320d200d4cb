"""An augmentation with the embedded models, small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from miniature.identity import make_identity
from miniature.portrait import render
from miniature.scene import sample_scene

PROJECT = """\
source = "photos"

[project]
name = "ada"
output = "out"

[augmentation]
total = 6
candidates = 8
disturbed = 0.5
angles = ["frontal view", "three-quarter view"]
lights = ["golden hour lighting"]
expressions = ["gentle smile"]
backgrounds = ["park background", "city background"]
price_per_hour = 3600.0

[model]
steps = 3
guidance = 1.0
batch_size = 4

[plan]
seeds = [1, 2]
template = "portrait of {trigger} {class_word}, {scenario}"
caption = "portrait of {trigger} {class_word}, {scenario}"

[[subjects]]
name = "ada"
trigger = "adax"
class_word = "woman"
description = "woman, straight brown hair, brown eyes, fair skin"

[faces]
minimum_confidence = 0.3
minimum_identity = -1.0

[quality]
minimum = 0.1

[clusters]
count = 2

[duplicates]
threshold = 0.9999
copies = false

[selection]
total = 5

[training]
targets = "attention"
rank = 2
alpha = 2.0
batch_size = 2
steps = 2
resolution = 64
validation_share = 0.0
"""


def of_two(place: str = "") -> str:
    """Return the same of two people, for the experiment.

    Args:
        place: What comes before the names of the folders ``ada``, ``ada_unseen``, ``bea`` and
            ``bea_unseen``.
    """
    subjects = "".join(
        f'\n[[subjects]]\nname = "{name}"\ntrigger = "{name}x"\nclass_word = "woman"\n'
        f'description = "woman"\nsource = "{place}{name}"\nunseen = "{place}{name}_unseen"\n'
        for name in ("ada", "bea")
    )
    two = PROJECT.split("[[subjects]]")[0] + subjects + "\n[faces]" + PROJECT.split("[faces]")[1]
    return two.replace('source = "photos"', "", 1)


def draw(folder: Path, count: int, person: int = 100, scene: int = 1) -> Path:
    """Draw portraits of one person as photographs."""
    folder.mkdir(parents=True)
    who = make_identity(
        np.random.default_rng(person), gender="woman", skin="fair", hair_color="brown",
        hair_style="straight", eye_color="brown", freckles=False,
    )  # fmt: skip
    rng = np.random.default_rng(scene)
    for number in range(count):
        Image.fromarray(render(who, sample_scene(rng)).image).save(folder / f"{number:03}.png")
    return folder
