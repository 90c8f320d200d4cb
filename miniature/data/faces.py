"""Drawn people for the models that look at images: who, where the face lies, what is said.

Images are drawn once and kept in shards. A shard is a folder that appears under its final name
only when it is complete, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from character_curator.progress import Progress, silent

from .. import vocabulary
from ..captions import attributes, caption
from ..identity import Identity, make_identity, sample_identity
from ..portrait import render, render_empty, render_group
from ..scene import Scene, sample_scene

MAX_FACES = 3
PARAPHRASES = 4
"""Captions kept for each portrait."""
SCENES_PER_PERSON = 6
_PEOPLE_PER_SHARD = 50
_OTHERS_PER_SHARD = 150
_TRAITS = (
    "face_width",
    "jaw_width",
    "chin_width",
    "cheek_height",
    "eye_spacing",
    "eye_width",
    "eye_aspect",
    "eye_height",
    "eye_tilt",
    "brow_thickness",
    "brow_arch",
    "brow_gap",
    "nose_length",
    "nose_width",
    "mouth_width",
    "mouth_height",
    "lip_fullness",
)
_COLORS = ("skin_rgb", "hair_rgb", "eye_rgb", "lip_rgb")


@dataclass(frozen=True)
class DrawnSet:
    """Some drawn images with everything that is known about them."""

    images: NDArray[np.uint8]
    """(n, size, size, 3) in RGB."""
    face_counts: NDArray[np.int64]
    """(n,): 1 for a portrait, 2 or 3 for a group, 0 for an empty place."""
    boxes: NDArray[np.float32]
    """(n, MAX_FACES, 4): x0, y0, x1, y1 in pixels; rows from ``face_counts`` on are zero."""
    landmarks: NDArray[np.float32]
    """(n, MAX_FACES, 5, 2) in pixels, in the order of insightface."""
    people: NDArray[np.int64]
    """(n,): number of the person in a portrait, -1 elsewhere."""
    traits: NDArray[np.float32]
    """(n, t): what the person of a portrait looks like in any scene, zero elsewhere."""
    attributes: tuple[dict[str, str], ...]
    """What a portrait shows, empty elsewhere."""
    captions: tuple[tuple[str, ...], ...]
    """Paraphrases of a portrait's caption, empty elsewhere."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)


def trait_vector(identity: Identity) -> NDArray[np.float32]:
    """List what stays the same in every image of a person, as plain numbers.

    Args:
        identity: The person.

    Returns:
        Lengths, then colours over 255, then 0/1 for each sayable trait's values.
    """
    values = [float(getattr(identity, name)) for name in _TRAITS]
    values += [channel / 255 for name in _COLORS for channel in getattr(identity, name)]
    values += [float(identity.hair_style == style) for style in vocabulary.HAIR_STYLES]
    values += [float(identity.freckles), float(identity.gender == "woman")]
    return np.array(values, np.float32)


def sample_people(seed: int, first: int, count: int) -> list[Identity]:
    """Draw people; every third one shares all sayable attributes with the one before.

    Such pairs teach a recogniser to look at more than skin, hair and eyes.

    Args:
        seed: Seed of the whole set.
        first: Number of the first person.
        count: How many.

    Returns:
        The people in order.
    """
    people = []
    for number in range(first, first + count):
        if number % 3 == 2:
            before = sample_identity(np.random.default_rng([seed, number - 1]))
            people.append(look_alike(before, np.random.default_rng([seed, number])))
        else:
            people.append(sample_identity(np.random.default_rng([seed, number])))
    return people


def look_alike(identity: Identity, rng: np.random.Generator) -> Identity:
    """Draw another person of whom a caption would say exactly the same.

    Args:
        identity: Whom to resemble.
        rng: Chooses everything that a caption does not say.

    Returns:
        The other person.
    """
    return make_identity(
        rng,
        gender=identity.gender,
        skin=identity.skin,
        hair_color=identity.hair_color,
        hair_style=identity.hair_style,
        eye_color=identity.eye_color,
        freckles=identity.freckles,
    )


def draw_people(
    seed: int, first: int, count: int, *, scenes: int = SCENES_PER_PERSON, size: int = 128
) -> DrawnSet:
    """Draw several portraits of each of some people.

    Args:
        seed: Seed of the whole set.
        first: Number of the first person.
        count: How many people.
        scenes: Portraits of each.
        size: Edge of the images in pixels.

    Returns:
        ``count * scenes`` portraits, person by person.
    """
    cases: list[tuple[Identity, Scene, int, np.random.Generator]] = []
    for number, identity in enumerate(sample_people(seed, first, count), start=first):
        rng = np.random.default_rng([seed, number, 1])
        cases += [(identity, sample_scene(rng), number, rng) for _ in range(scenes)]
    n = len(cases)
    images = np.empty((n, size, size, 3), np.uint8)
    boxes = np.zeros((n, MAX_FACES, 4), np.float32)
    landmarks = np.zeros((n, MAX_FACES, 5, 2), np.float32)
    texts = []
    for i, (identity, scene, _, rng) in enumerate(cases):
        portrait = render(identity, scene, size=size)
        images[i], boxes[i, 0], landmarks[i, 0] = (portrait.image, portrait.box, portrait.landmarks)
        texts.append(tuple(caption(identity, scene, rng) for _ in range(PARAPHRASES)))
    return DrawnSet(
        images,
        np.ones(n, np.int64),
        boxes,
        landmarks,
        np.array([number for _, _, number, _ in cases]),
        np.stack([trait_vector(identity) for identity, _, _, _ in cases]),
        tuple(attributes(identity, scene) for identity, scene, _, _ in cases),
        tuple(texts),
    )


def draw_others(seed: int, first: int, count: int, *, size: int = 128) -> DrawnSet:
    """Draw what is not a portrait: two groups, then an empty place, and so on.

    Args:
        seed: Seed of the whole set.
        first: Number of the first image.
        count: How many.
        size: Edge of the images in pixels.

    Returns:
        The images.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    counts = np.zeros(count, np.int64)
    boxes = np.zeros((count, MAX_FACES, 4), np.float32)
    landmarks = np.zeros((count, MAX_FACES, 5, 2), np.float32)
    for i in range(count):
        rng = np.random.default_rng([seed, first + i, 2])
        if (first + i) % 3 == 2:
            images[i] = render_empty(rng, size=size)
            continue
        n = int(rng.integers(2, MAX_FACES + 1))
        members = [(sample_identity(rng), sample_scene(rng)) for _ in range(n)]
        images[i], boxes[i, :n], landmarks[i, :n] = render_group(members, size=size)
        counts[i] = n
    width = len(_TRAITS) + 3 * len(_COLORS) + len(vocabulary.HAIR_STYLES) + 2
    return DrawnSet(
        images,
        counts,
        boxes,
        landmarks,
        np.full(count, -1, np.int64),
        np.zeros((count, width), np.float32),
        ({},) * count,
        ((),) * count,
    )


def write_sets(
    folder: Path,
    *,
    people: int,
    others: int,
    seed: int,
    size: int = 128,
    progress: Progress = silent,
) -> None:
    """Draw people, groups and empty places into a folder; finished shards are kept.

    Args:
        folder: Where the shards go.
        people: How many people, rounded up to whole shards; ``SCENES_PER_PERSON`` portraits each.
        others: How many groups and empty places, rounded up to whole shards.
        seed: Seed of the whole set.
        size: Edge of the images in pixels.
        progress: Told of every shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [("others", i, _OTHERS_PER_SHARD) for i in range(-(-others // _OTHERS_PER_SHARD))]
    jobs += [("people", i, _PEOPLE_PER_SHARD) for i in range(-(-people // _PEOPLE_PER_SHARD))]
    progress.start("draw people", len(jobs))
    for kind, number, count in jobs:
        target = folder / f"{kind}-{number:04d}"
        if not target.exists():
            draw = draw_people if kind == "people" else draw_others
            partial = folder / f".{target.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _save(partial, draw(seed, number * count, count, size=size))
            partial.replace(target)
        progress.advance()
    progress.finish()


def _save(folder: Path, drawn: DrawnSet) -> None:
    np.save(folder / "images.npy", drawn.images)
    np.savez(
        folder / "faces.npz",
        face_counts=drawn.face_counts,
        boxes=drawn.boxes,
        landmarks=drawn.landmarks,
        people=drawn.people,
        traits=drawn.traits,
    )
    texts = {"attributes": drawn.attributes, "captions": drawn.captions}
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _load(folder: Path) -> DrawnSet:
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    with np.load(folder / "faces.npz") as arrays:
        return DrawnSet(
            np.load(folder / "images.npy"),
            **{name: arrays[name] for name in arrays.files},
            attributes=tuple(texts["attributes"]),
            captions=tuple(tuple(variants) for variants in texts["captions"]),
        )


def read_sets(folder: Path, kinds: Sequence[str] = ("people", "others")) -> DrawnSet:
    """Read what ``write_sets`` has drawn so far, as one set in memory.

    Args:
        folder: Where the shards are.
        kinds: "people", "others", or both.

    Returns:
        All images, kind by kind.

    Raises:
        FileNotFoundError: There is no complete shard.
    """
    shards = [path for kind in kinds for path in sorted(folder.glob(f"{kind}-*"))]
    if not shards:
        raise FileNotFoundError(f"no drawn images in {folder}: write_sets() draws them")
    return joined([_load(path) for path in shards])


def joined(sets: Sequence[DrawnSet]) -> DrawnSet:
    """Put several sets behind one another."""

    def stack(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in sets])

    return DrawnSet(
        stack("images"),
        stack("face_counts"),
        stack("boxes"),
        stack("landmarks"),
        stack("people"),
        stack("traits"),
        tuple(entry for part in sets for entry in part.attributes),
        tuple(entry for part in sets for entry in part.captions),
    )


def with_images(drawn: DrawnSet, images: NDArray[np.uint8]) -> DrawnSet:
    """Replace the pixels, for instance by what a VAE makes of them; all else stays true."""
    return replace(drawn, images=images)


def batches(
    count: int, size: int, rng: np.random.Generator, skip: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield shuffled batches of indices without end, every index once before any comes again.

    Args:
        count: How many indices there are.
        size: Of a batch.
        rng: Shuffles.
        skip: Batches to leave out, for a run that continues.

    Yields:
        (size,) indices.
    """
    pool = np.empty(0, np.int64)
    for number in itertools.count():
        while len(pool) < size:
            pool = np.concatenate([pool, rng.permutation(count)])
        batch, pool = pool[:size], pool[size:]
        if number >= skip:
            yield batch
