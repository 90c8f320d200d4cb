"""Captioned portraits of the leading character, drawn, as a folder to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from miniature.captions import caption
from miniature.identity import leading_character
from miniature.portrait import render
from miniature.scene import sample_scene


def draw_folder(folder: Path, count: int = 6, seed: int = 0, side: int = 128) -> Path:
    """Write images and captions; the same arguments give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    person = leading_character()
    for number in range(count):
        scene = sample_scene(rng)
        pixels = render(person, scene, size=side).image
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        text = f"char1, {caption(person, scene)}"
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    return folder
