"""Crops as files: what becomes of each image, cut without loss, and in the place of its original.

A crop names the original that it was cut from, also where it is cut from a crop of this run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from .. import atomic
from ..damages import note_damage
from ..generation.png import output_error
from ..hashing import content_hash
from ..imageset import ImageSet
from ..json_text import parse_object
from ..naming import portable
from ..plain_files import plain_bytes
from ..progress import Progress
from ..reading.crops import CROP_KEY, CropRecord, crop_record, cut_file
from ..reading.opening import decoding_errors
from .decoding import processors

_COMPRESSION = 4


@dataclass(frozen=True)
class CropPlan:
    """What becomes of a row: a crop of its file, or the reason why there is none.

    Attributes:
        record: Which part of the row's file.
        problem: Why there is no crop.
        named: What the crop says of itself, where the file is itself a crop of this run: which
            part of the original it is; ``record`` unless given.
    """

    record: CropRecord | None = None
    problem: str = ""
    named: CropRecord | None = None

    @property
    def says(self) -> CropRecord | None:
        """What the crop says of itself."""
        return self.named or self.record


def planned(
    values: Mapping[str, Any],
    path: Path,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    wanted: tuple[int, int],
) -> CropPlan:
    """Return the plan to cut a box out of a row's file.

    Args:
        values: The row.
        path: Its file.
        size: Width and height of its file in pixels, upright.
        box: Left, top, right, bottom in those.
        wanted: Width and height of the crop.
    """
    name = PurePosixPath(values.get("source") or values["path"]).name
    record = CropRecord(
        name, values["hash"], size, box, wanted, parse_object(values.get("generation"))
    )
    before = crop_record(path) if values.get("crop_box") else None
    if before is None or before.scale != 1:
        return CropPlan(record)
    left, top = before.box[:2]
    moved = (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
    return CropPlan(record, named=replace(before, box=moved, size=wanted))


def cut_all(
    images: ImageSet, folder: Path, plans: dict[int, CropPlan], progress: Progress
) -> dict[int, tuple[Path, str]]:
    """Write the crops that are not there: path and hash by row; a failure goes into its plan."""
    wanted = [
        (row, plan.record, plan.named or plan.record)
        for row, plan in plans.items()
        if plan.record is not None
    ]
    if not wanted:
        return {}
    paths = images.paths()
    made: dict[int, tuple[Path, str]] = {}
    progress.start("Cropping", len(wanted))

    def one(task: tuple[int, CropRecord, CropRecord]) -> tuple[Path, str] | str:
        row, record, named = task
        target = crop_path(folder, named)
        if not _is_crop(target, named):
            if target.exists():
                note_damage("crops", target.parent, "made again")
            try:
                part = cut_file(paths[row], record)
            except decoding_errors() as error:
                return getattr(error, "strerror", None) or str(error)
            write_crop(part, target, named)
        return target, content_hash(target)

    with ThreadPoolExecutor(max_workers=min(8, processors())) as pool:
        for (row, _, _), result in zip(wanted, pool.map(one, wanted), strict=True):
            if isinstance(result, str):
                plans[row] = CropPlan(problem=f"it can't be cut: {result}")
            else:
                made[row] = result
            progress.advance(1, paths[row].name)
    progress.finish()
    return made


def _is_crop(path: Path, record: CropRecord) -> bool:
    """Whether a crop is there and whole, to the last chunk's checksum."""
    from ..generation.png import DamagedPngError, chunks

    if crop_record(path) != record:
        return False
    try:
        return bool(list(chunks(plain_bytes(path))))
    except (OSError, DamagedPngError):
        return False


def crop_path(folder: Path, record: CropRecord) -> Path:
    """Return where a crop lies: under its original's name, in a folder named by its record."""
    digest = hashlib.sha256(record.to_text().encode()).hexdigest()[:12]
    stem = PurePosixPath(record.source).stem
    return folder / digest / portable(f"{stem}.png")


def write_crop(part: Any, target: Path, record: CropRecord) -> None:
    """Write a crop as PNG with its record, whole or not at all.

    Raises:
        OutputError: The disk is full or the folder can't be written to.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(CROP_KEY, record.to_text())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(target) as temporary:
            part.save(temporary, format="PNG", pnginfo=info, icc_profile=None, exif=b"",
                      compress_level=_COMPRESSION)  # fmt: skip
    except OSError as error:
        raise output_error(target, error) from error


def with_crops(
    images: ImageSet, made: Mapping[int, tuple[Path, str]], plans: Mapping[int, CropPlan]
) -> ImageSet:
    """Return the set with crops in the place of their originals."""
    table = images.table
    rows = range(len(images))
    records = [plans[row].says if row in made else None for row in rows]
    names = table["source"] if "source" in table.columns else table["path"]
    root, paths = _common(images, made)
    more: list[pl.Series] = []

    def kept(name: str, values: list[Any], kind: Any) -> pl.Series:
        """What an earlier crop of this run has said stays where there is none now."""
        known = table[name].to_list() if name in table.columns else [None] * len(values)
        both = [new if new is not None else old for new, old in zip(values, known, strict=True)]
        return pl.Series(name, both, kind)

    if "mask_file" in table.columns:
        places = [None if m is None else images.root.resolve() / m for m in table["mask_file"]]
        masks = [None if m is None else os.path.relpath(m, root.resolve()) for m in places]
        names_of_masks = [None if m is None else Path(m).as_posix() for m in masks]
        more.append(pl.Series("mask_file", names_of_masks, pl.String))
    return ImageSet(
        table.with_columns(
            pl.Series("path", paths, pl.String),
            names.alias("source"),
            pl.Series("hash", [made[i][1] if i in made else table["hash"][i] for i in rows]),
            pl.Series("width", [r.size[0] if r else table["width"][i]
                                for i, r in enumerate(records)], pl.Int32),
            pl.Series("height", [r.size[1] if r else table["height"][i]
                                 for i, r in enumerate(records)], pl.Int32),
            kept("crop_box", [list(r.box) if r else None for r in records], pl.List(pl.Int32)),
            kept("crop_source_hash", [r.source_hash if r else None for r in records], pl.String),
            kept("crop_scale", [r.scale if r else None for r in records], pl.Float64),
            pl.Series("crop_note", [plans[i].problem or None if i in plans else None for i in rows],
                      pl.String),
            *more,
        ),
        root,
        images.notes,
    )  # fmt: skip


def _common(images: ImageSet, made: Mapping[int, tuple[Path, str]]) -> tuple[Path, list[str]]:
    """Return a folder above originals and crops, and every path from there."""
    paths = [made[row][0] if row in made else path for row, path in enumerate(images.paths())]
    crops = [path.parent.parent for path, _ in made.values()][:1]
    try:
        root = Path(os.path.commonpath([images.root.resolve(), *(c.resolve() for c in crops)]))
        start = os.path.relpath(images.root.resolve(), root)
        names = [
            (path.resolve() if row in made else Path(start) / images.table["path"][row])
            for row, path in enumerate(paths)
        ]
        return root, [
            (name.relative_to(root) if row in made else name).as_posix()
            for row, name in enumerate(names)
        ]
    except ValueError:  # drives of their own
        return images.root, [
            path.as_posix() if row in made else images.table["path"][row]
            for row, path in enumerate(paths)
        ]
