"""Portraits without end for training: drawn once, kept in shards, read back as arrays.

A shard is a folder that appears under its final name only when it is complete, so one process can
draw while another trains on what is there already.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from character_curator.progress import Progress, silent

from .. import vocabulary
from ..captions import caption
from ..identity import Identity, leading_character, sample_identity
from ..portrait import render
from ..scene import Scene, sample_scene

PARAPHRASES = 6
"""Captions kept for each image; training picks one at random and then drops phrases of it."""


@dataclass(frozen=True)
class Mixture:
    """What the training images are drawn from, beyond the samplers of the miniature world."""

    leading_character: float = 0.05
    """Share of images that show the leading character, under captions that only describe."""
    harder_pose: float = 0.12
    """Share of images whose pose is made a profile or a three-quarter view."""
    smaller_face: float = 0.10
    """Share of images whose framing is made a bust or a half body."""


@dataclass(frozen=True)
class Shard:
    """Some portraits with their captions.

    ``images`` is uint8 (n, size, size, 3) in RGB, ``boxes`` float32 (n, 4) in pixels, ``captions``
    has ``PARAPHRASES`` texts for each image.
    """

    images: np.ndarray
    boxes: np.ndarray
    captions: tuple[tuple[str, ...], ...]


def draw_parameters(
    seed: int, index: int, mixture: Mixture | None = None
) -> tuple[Identity, Scene, np.random.Generator]:
    """Decide what one training image shows.

    Args:
        seed: Seed of the whole set.
        index: Number of the image; every image has a random stream of its own.
        mixture: Shares of the cases that need more practice.

    Returns:
        The person, the situation, and the generator for what follows, such as the captions.
    """
    mixture = mixture or Mixture()
    rng = np.random.default_rng([seed, index])
    identity = sample_identity(rng)
    scene = sample_scene(rng)
    if rng.random() < mixture.leading_character:
        identity = leading_character()
    if rng.random() < mixture.harder_pose:
        scene = replace(scene, pose=str(rng.choice(vocabulary.POSES[1:])))
    if rng.random() < mixture.smaller_face:
        scene = replace(scene, framing=str(rng.choice(vocabulary.FRAMINGS[1:])))
    return identity, scene, rng


def draw_shard(
    seed: int, start: int, count: int, *, size: int = 128, mixture: Mixture | None = None
) -> Shard:
    """Draw a run of training images.

    Args:
        seed: Seed of the whole set.
        start: Number of the first image.
        count: How many.
        size: Edge of the images in pixels.
        mixture: Shares of the cases that need more practice.

    Returns:
        The images, their face boxes and captions.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    boxes = np.empty((count, 4), np.float32)
    texts: list[tuple[str, ...]] = []
    for i in range(count):
        identity, scene, rng = draw_parameters(seed, start + i, mixture)
        portrait = render(identity, scene, size=size, supersample=2)
        images[i] = portrait.image
        boxes[i] = portrait.box
        texts.append(tuple(caption(identity, scene, rng) for _ in range(PARAPHRASES)))
    return Shard(images, boxes, tuple(texts))


def write_shards(
    folder: Path,
    *,
    count: int,
    seed: int,
    first: int = 0,
    shard_size: int = 512,
    size: int = 128,
    mixture: Mixture | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Draw training images into a folder; shards that are there already are kept.

    Args:
        folder: Where the shards go.
        count: How many images, rounded up to whole shards.
        seed: Seed of the whole set.
        first: Number of the first shard; several processes can draw different ranges.
        shard_size: Images in a shard.
        size: Edge of the images in pixels.
        mixture: Shares of the cases that need more practice.
        progress: Told of every shard.

    Returns:
        The folders of the shards, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-count // shard_size)
    progress.start("draw portraits", shards)
    written = []
    for number in range(first, first + shards):
        target = folder / f"shard-{number:04d}"
        if not target.exists():
            shard = draw_shard(seed, number * shard_size, shard_size, size=size, mixture=mixture)
            partial = folder / f".shard-{number:04d}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            np.save(partial / "images.npy", shard.images)
            np.save(partial / "boxes.npy", shard.boxes)
            (partial / "captions.json").write_text(json.dumps(shard.captions), encoding="utf-8")
            partial.replace(target)
        written.append(target)
        progress.advance()
    progress.finish()
    return written


def shard_folders(folder: Path) -> list[Path]:
    """List the complete shards of a folder in order."""
    return sorted(folder.glob("shard-*"))


def read_shard(folder: Path) -> Shard:
    """Read a shard back; the images stay on disk until they are used."""
    return Shard(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        boxes=np.load(folder / "boxes.npy"),
        captions=tuple(
            tuple(texts)
            for texts in json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        ),
    )


def shuffled_caption(variants: Sequence[str], rng: np.random.Generator, drop: float = 0.15) -> str:
    """Pick one paraphrase of a caption, drop some of its phrases and shuffle the rest.

    Args:
        variants: Captions of one image: phrases with commas between them, the subject first.
        rng: Source of randomness.
        drop: Probability with which each phrase but the subject is left out.

    Returns:
        A caption that is still true.
    """
    subject, *phrases = variants[int(rng.integers(len(variants)))].split(", ")
    kept = [phrase for phrase in phrases if rng.random() >= drop]
    return ", ".join([subject, *(kept[i] for i in rng.permutation(len(kept)))])
