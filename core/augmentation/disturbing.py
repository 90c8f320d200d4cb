"""The stage that disturbs: copies of images with a part hidden, blurred, grainy, compressed.

The images themselves stay as they are. A copy is a PNG file that says what was done to which image,
so that it can be made again to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from .. import atomic
from ..analysis.decoding import processors
from ..counts import how_many, worded
from ..damages import note_damage
from ..dataset.images import own_texts
from ..generation.png import output_error
from ..hashing import content_hash
from ..imageset import SCHEMA, ImageSet
from ..json_text import parse, parse_object
from ..naming import slug
from ..progress import Progress, silent
from ..reading.disturbances import (
    DISTURBANCE_KEY,
    DISTURBED,
    KINDS,
    MOST_SEED,
    Disturbance,
    DisturbanceError,
    DisturbanceRecord,
    Pixels,
    check_kind,
    digest,
    disturbance_record,
    disturbed,
    draw,
    rgb_pixels,
)
from ..reading.opening import opened

_COMPRESSION = 4
_KEPT = ("repeats", "class_word", "angle", "light", "expression", "background")
"""Columns beyond the schema that are true of a copy as well."""


@dataclass(frozen=True)
class DisturbanceWish:
    """Which copies there shall be.

    Attributes:
        kinds: What they are disturbed by, each as often as the others.
        strength: How much, from 0 (just visible) to 1 (hardly to be recognised).
        seed: What the numbers of every disturbance are drawn from.
        count: How many copies; one of each image if ``None``. More than there are images takes
            each several times, by another kind.
    """

    kinds: tuple[str, ...] = KINDS
    strength: float = 0.5
    seed: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if not self.kinds:
            raise DisturbanceError(
                f"No kind of disturbance is named. There are: {', '.join(KINDS)}."
            )
        if len(set(self.kinds)) < len(self.kinds):
            raise DisturbanceError(
                f"A kind of disturbance is named twice: {', '.join(self.kinds)}."
            )
        for kind in self.kinds:
            check_kind(kind)
        if not 0 <= self.strength <= 1:
            raise DisturbanceError(f"The strength is {self.strength:g}: it must be from 0 to 1.")
        if self.count is not None and self.count < 0:
            raise DisturbanceError(f"{self.count} {worded(self.count, 'copy')} can't be made.")


def disturb_images(
    images: ImageSet,
    folder: Path | str,
    wish: DisturbanceWish = DisturbanceWish(),
    progress: Progress = silent,
) -> ImageSet:
    """Add disturbed copies of accepted images below the rows of a set.

    Which image is disturbed by what is drawn from its pixels and the seed: it does not depend on
    where the images lie, on their order, nor on which others there are beside it, but for the share
    of each kind. Copies that are there already, and whole, are not made again. A copy's row has the
    kind ``disturbed``, what was asked for of its image, ``disturbance`` (by what),
    ``disturbance_source`` (the image's content hash) and ``disturbance_record`` (all of it, as
    JSON). Nothing that was measured of the image is said of the copy.

    Args:
        images: Any set. Rows that are rejected, or disturbed copies already, are not disturbed.
        folder: Where the copies go.
        wish: Which ones.
        progress: Watches.

    Returns:
        The rows as they were, then the copies'. :attr:`.ImageSet.notes` say how many.

    Raises:
        DisturbanceError: More copies are wanted than images and kinds give.
        OutputError: The folder can't be written to.
    """
    rows = list(images.table.with_row_index("_row").iter_rows(named=True))
    free = [
        row
        for row in rows
        if row["rejection"] is None and row["hash"] and row.get("disturbance") is None
    ]
    count = wish.count
    paths, place = images.paths(), Path(folder).expanduser()
    made: list[dict[str, Any]] = []
    problems: list[str] = []

    def look(row: Mapping[str, Any]) -> _Source | str:
        source = paths[row["_row"]]
        try:
            if content_hash(source) != row["hash"]:
                raise ValueError("its bytes have changed since it was listed")
            return _Source(row, source, digest(rgb_pixels(source)))
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            return f"{source.name}: {getattr(error, 'strerror', None) or error}"

    def one(task: tuple[_Source, str, int]) -> dict[str, Any] | str:
        source, kind, seed = task
        try:
            return _copy(source, place, kind, wish.strength, seed)
        except DisturbanceError as error:  # a transform of albumentations that wants more pixels
            return f"{source.path.name}: {error}"
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            return f"{source.path.name}: {getattr(error, 'strerror', None) or error}"

    with ThreadPoolExecutor(max_workers=min(8, processors())) as pool:
        looked = list(pool.map(look, free))
        problems += [found for found in looked if isinstance(found, str)]
        tasks = _drawn([found for found in looked if not isinstance(found, str)], wish, count)
        progress.start("Disturbing", len(tasks))
        for result in pool.map(one, tasks):
            if isinstance(result, str):
                problems.append(result)
            else:
                made.append(result)
            progress.advance(1, "" if isinstance(result, str) else result["path"].name)
    progress.finish()
    return replace(_joined(images, made), notes=(*images.notes, *_notes(made, problems, len(free))))


@dataclass(frozen=True)
class _Source:
    """An image that may be disturbed: its row, its file, and the identity of its pixels."""

    row: Mapping[str, Any]
    path: Path
    pixels: str


def _drawn(
    free: Sequence[_Source], wish: DisturbanceWish, count: int | None
) -> list[tuple[_Source, str, int]]:
    """Deal images out to kinds: (image, kind, seed), each kind as often as the others."""
    count = len(free) if count is None else count
    if count > len(free) * len(wish.kinds):
        raise DisturbanceError(
            f"{how_many(count, 'disturbed copy is', 'disturbed copies are')} wanted, and "
            f"{how_many(len(free), 'image gives', 'images give')} {len(free) * len(wish.kinds)} at "
            f"most, one by each of {how_many(len(wish.kinds), 'kind')}. Ask "
            "for fewer, or name more kinds."
        )
    order = sorted(free, key=lambda one: (_number(wish.seed, "order", one.pixels), one.row["_row"]))
    tasks = []
    for number in range(count):
        turn, place = divmod(number, len(order))
        kind = wish.kinds[(place + turn) % len(wish.kinds)]
        seed = _number(wish.seed, kind, order[place].pixels) % MOST_SEED
        tasks.append((order[place], kind, seed))
    return sorted(tasks, key=lambda task: (task[0].row["_row"], wish.kinds.index(task[1])))


def _number(seed: int, what: str, key: str) -> int:
    text = json.dumps(["character-curator/disturbance/1", seed, what, key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _copy(source: _Source, folder: Path, kind: str, strength: float, seed: int) -> dict[str, Any]:
    """Write a copy unless it is there: its columns, with its whole path."""
    row = source.row
    pixels = rgb_pixels(source.path)
    height, width = pixels.shape[:2]
    disturbance = draw(kind, strength, seed, (width, height), row.get("face_box"))
    name = PurePosixPath(row["path"]).name
    target = folder / _name(name, disturbance, source.pixels)
    record = disturbance_record(target)
    if record is None or not _is_of(record, disturbance, row["hash"]) or not _is_whole(target):
        if target.exists():
            note_damage("disturbed copies", folder, "made again")
        changed = disturbed(pixels, disturbance)
        record = DisturbanceRecord(
            disturbance,
            name,
            row["hash"],
            (width, height),
            digest(changed),
            parse_object(row.get("generation")),
        )
        write_disturbed(changed, target, record, _texts_of(source.path))
    known = {key: row.get(key) for key in (*SCHEMA, *_KEPT) if row.get(key) is not None}
    return {
        **known,
        "path": target,
        "hash": content_hash(target),
        "width": width,
        "height": height,
        "kind": DISTURBED,
        "rejection": None,
        "rejection_detail": None,
        **record.columns(),
    }


def _name(name: str, disturbance: Disturbance, source_pixels: str) -> str:
    """Name a copy by what it shows: the same for the same, another for anything else."""
    text = json.dumps([source_pixels, disturbance.as_mapping()], sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{PurePosixPath(name).stem}_{slug(disturbance.kind)}_{mark}.png"


def _is_of(record: DisturbanceRecord, disturbance: Disturbance, source_hash: str) -> bool:
    same = record.disturbance.as_mapping() == parse(json.dumps(disturbance.as_mapping()))
    return same and record.source_hash == source_hash


def _is_whole(path: Path) -> bool:
    record = disturbance_record(path)
    try:
        return record is not None and digest(rgb_pixels(path)) == record.pixels
    except (OSError, ValueError, SyntaxError, MemoryError):
        return False


def _texts_of(source: Path) -> dict[str, str]:
    """Return how an image was cut, if it was: what comes before its disturbance."""
    from ..reading.crops import CROP_KEY

    with opened(source) as image:
        return {key: text for key, text in own_texts(image).items() if key == CROP_KEY}


def write_disturbed(
    pixels: Pixels, target: Path, record: DisturbanceRecord, texts: Mapping[str, str] | None = None
) -> None:
    """Write a disturbed image as PNG with its record, whole or not at all.

    Args:
        pixels: RGB, uint8, shape ``(height, width, 3)``.
        target: The file.
        record: What it says of itself.
        texts: Further text chunks by keyword.

    Raises:
        OutputError: The disk is full or the folder can't be written to.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in {DISTURBANCE_KEY: record.to_text(), **(texts or {})}.items():
        info.add_text(key, text)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(target) as temporary:
            Image.fromarray(pixels).save(
                temporary, format="PNG", pnginfo=info, compress_level=_COMPRESSION
            )
    except OSError as error:
        raise output_error(target, error) from error


def _joined(images: ImageSet, made: Sequence[dict[str, Any]]) -> ImageSet:
    """Return the set with the copies' rows, all paths from one folder above."""
    if not made:
        return images
    here = images.root.resolve()
    try:
        root = Path(os.path.commonpath([here, *(row["path"].parent.resolve() for row in made)]))
        above = Path(os.path.relpath(here, root))
        names = [
            name if Path(name).is_absolute() else (above / name).as_posix()
            for name in images.table["path"]
        ]
        copies = [row["path"].resolve().relative_to(root).as_posix() for row in made]
    except ValueError:  # drives of their own
        root, names = images.root, images.table["path"].to_list()
        copies = [row["path"].resolve().as_posix() for row in made]
    known = images.table
    if "source" not in known.columns and names != known["path"].to_list():
        known = known.with_columns(pl.col("path").alias("source"))
    known = known.with_columns(pl.Series("path", names, pl.String))
    rows = [{**row, "path": path} for row, path in zip(made, copies, strict=True)]
    added = ImageSet.from_rows(rows, root).table
    if "source" in known.columns:
        added = added.with_columns(pl.Series("source", [row["path"].name for row in made]))
    return ImageSet(pl.concat([known, added], how="diagonal_relaxed"), root)


def _notes(made: Sequence[Mapping[str, Any]], problems: Sequence[str], images: int) -> list[str]:
    counted = Counter(row["disturbance"] for row in made)
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(counted.items())) or "none"
    sources = len({row["disturbance_source"] for row in made})
    notes = [
        f"{how_many(len(made), 'disturbed copy')} of {sources:,} of {how_many(images, 'image')}: "
        f"{told}."
    ]
    if problems:
        listed = "; ".join(problems[:3]) + ("; …" if len(problems) > 3 else "")
        notes.append(f"{how_many(len(problems), 'copy')} could not be made: {listed}.")
    return notes
