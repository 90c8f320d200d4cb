"""Draw the people of the augmentation experiment, and write its project file.

    python benchmarks/augmentation_people.py FOLDER
    character-curator experiment augmentation FOLDER/people.toml

They are drawn by the program whose images the embedded models have learnt from, and are strangers
to these models. All are described by the same words (a woman, long straight brown hair, brown
eyes, fair skin): what tells them apart is in their faces. The "real" images are what a person has
at hand: from the front, evenly lit, near. The unseen ones are of any angle, light, expression and
framing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from miniature.captions import caption
from miniature.identity import Identity, make_identity
from miniature.portrait import render
from miniature.scene import Scene, sample_scene

LOOKS = {
    "gender": "woman", "skin": "fair", "hair_color": "brown", "hair_style": "straight",
    "eye_color": "brown", "freckles": False,
}  # fmt: skip
NAMES = ("ada", "bea", "cleo", "dora", "edith", "frida")

HEAD = """\
# The people of the augmentation experiment: see docs/augmentation.md.

[project]
name = "people"
output = "output"

[augmentation]
total = {synthetic}
candidates = {candidates}
disturbed = 0.5
strength = 0.8

[model]
scheduler = "dpmpp_2m_karras"
steps = 8
guidance = 1.0
batch_size = 8

[faces]
# A face behind something is less certain than one that is not.
minimum_confidence = 0.5
minimum_identity = 0.4

[quality]
minimum = 0.4

[duplicates]
threshold = 0.998
copies = false

[dataset]
captions = "{{caption}}"

[training]
targets = "full"
rank = 16
alpha = 16.0
learning_rate = 2e-3
train_text_encoder = true
batch_size = 8
steps = {steps}
schedule = "cosine"
resolution = 128
bucket_step = 32
min_snr_gamma = 5.0
caption_dropout = 0.1
validation_share = 0.0
"""

SUBJECT = """
[[subjects]]
name = "{name}"
trigger = "{name}"
class_word = "woman"
description = "woman, long straight brown hair, brown eyes, fair skin"
source = "{name}/real"
unseen = "{name}/unseen"
"""


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=3, choices=range(2, len(NAMES) + 1))
    parser.add_argument("--real", type=int, default=90, help="of each (%(default)s)")
    parser.add_argument("--unseen", type=int, default=120, help="of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="of a training (%(default)s)")
    parser.add_argument("--synthetic", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--candidates", type=int, default=240, help="(%(default)s)")
    options = parser.parse_args()
    text = HEAD.format(**vars(options))
    for number, name in enumerate(NAMES[: options.people]):
        who = make_identity(np.random.default_rng(100 + number), **LOOKS)
        draw(options.folder / name / "real", who, name, options.real, 2 * number, plain=True)
        draw(options.folder / name / "unseen", who, name, options.unseen, 2 * number + 1)
        text += SUBJECT.format(name=name)
    (options.folder / "people.toml").write_text(text, encoding="utf-8")
    print(f"{options.folder / 'people.toml'} and {options.people} people")


def draw(
    folder: Path, who: Identity, name: str, count: int, seed: int, *, plain: bool = False
) -> None:
    """Draw a person's images, each with its caption: what varies, and the name for the looks."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        scene = sample_scene(rng)
        if plain:
            scene = at_hand(scene, rng)
        path = folder / f"{name}_{number:03}.png"
        Image.fromarray(render(who, scene).image).save(path)
        said = [p for p in caption(who, scene).split(", ")[1:] if not is_of_looks(p)]
        text = ", ".join([f"portrait of {name} woman", *said])
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def at_hand(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return a scene as the images are that a person has at hand."""
    return replace(
        scene,
        pose="frontal",
        framing="close-up",
        light=("studio", "soft daylight")[int(rng.integers(2))],
        expression=("calm", "gentle smile")[int(rng.integers(2))],
    )


def is_of_looks(phrase: str) -> bool:
    """Whether a part of a caption says what the person looks like, which the name stands for."""
    return phrase.endswith((" hair", " eyes", " skin"))


if __name__ == "__main__":
    main()
