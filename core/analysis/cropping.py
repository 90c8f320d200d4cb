"""The crop stage: each image becomes the part of it that shows the person in a framing.

Faces are looked for in the originals, the face of the person is chosen as everywhere else, and the
part around it is written as a PNG file without loss. Every later stage reads that file, so that
what is measured is what is exported.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .. import atomic
from ..defaults import CropFraming
from ..generation.png import output_error
from ..hashing import content_hash
from ..imageset import ImageSet
from ..json_text import parse
from ..progress import Progress, silent
from ..reading.crops import CROP_KEY, CropRecord, crop_record, cut_file
from ..reading.opening import decoding_errors
from ..rejection_reasons import Rejection
from .crop_boxes import aspect_of, crop_box, head_of
from .decoding import processors
from .face_validation import FaceThresholds, validate_faces
from .pixels import known_pixels

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .face_analyser import FaceAnalyser

SMALL = 512
"""Crops with a shorter side below this are counted in what is said."""

_COMPRESSION = 4


@dataclass(frozen=True)
class CropWish:
    """What crops shall be.

    Attributes:
        framing: What of the person is seen.
        aspect: Width over height, such as ``4:5``; ``None`` takes what suits the framing.
        minimum_side: Least shorter side in pixels; ``None`` takes any.
        upscale: Whether smaller crops are enlarged to it; otherwise they can't be had.
        reject: Whether images whose crop can't be had are rejected; otherwise they stay whole.
    """

    framing: CropFraming
    aspect: str | None = None
    minimum_side: int | None = None
    upscale: bool = False
    reject: bool = False

    @property
    def ratio(self) -> Fraction:
        """Width over height.

        Raises:
            AspectError: The text is no aspect ratio.
        """
        return aspect_of(self.aspect, self.framing)


@dataclass(frozen=True)
class _Plan:
    """What becomes of a row: a crop, or the reason why there is none."""

    record: CropRecord | None = None
    problem: str = ""


def crop_images(
    images: ImageSet,
    analyser: FaceAnalyser,
    store: FeatureStore,
    folder: Path,
    wish: CropWish,
    *,
    thresholds: FaceThresholds | None = None,
    references: Sequence[Path | str] = (),
    progress: Progress = silent,
) -> ImageSet:
    """Crop every image around the face of its person.

    A crop is a PNG file below ``folder``, in sRGB, upright, with its transparency, and says of
    itself what it was cut from; one that is there already is not cut again. Its row has the crop's
    path, hash and size, ``source`` with the original's name, ``crop_box`` in the original's pixels
    (upright), ``crop_source_hash``, and ``crop_scale`` (above 1 where it was enlarged). A row
    whose crop can't be had keeps its whole image, with the reason in ``crop_note``, or is rejected
    as ``no_crop``. Images in which no face of the person is found stay as they are, for the later
    stages to judge. :attr:`.ImageSet.notes` say how many became what.

    Args:
        images: The candidates; only accepted ones are cropped.
        analyser: The face models.
        store: Where measurements are kept.
        folder: Where the crops go.
        wish: What they shall be.
        thresholds: What a valid face is; how much of the original it takes does not matter.
        references: Images of the person, one face each.
        progress: Watches.

    Raises:
        AspectError: The aspect ratio is none.
        CuratorError: As :func:`.face_validation.validate_faces`.
    """
    ratio = wish.ratio
    limits = (thresholds or FaceThresholds()).of_pack(analyser, bool(references))
    limits = replace(limits, share=0.0)
    found = validate_faces(images, analyser, store, limits, references, progress)
    sizes = known_pixels(found, store)
    plans: dict[int, _Plan] = {}
    for row, values in enumerate(found.table.iter_rows(named=True)):
        measured = sizes[row]
        if values["rejection"] is None and values["face_box"] is not None and measured is not None:
            size = (measured.width, measured.height)
            plans[row] = _planned(values, size, wish, ratio, limits.layout)
    made = _cut_all(images, folder, plans, progress)
    cropped = _with_crops(images, made, plans)
    # A file that can't be decoded was found out here, and is not tried again.
    broken = (found.table["rejection"] == Rejection.UNREADABLE.value).fill_null(False)
    details = found.table["rejection_detail"].fill_null("").to_list()
    cropped = cropped.reject(broken, Rejection.UNREADABLE, details)
    notes = _notes(plans, made, len(images.accepted), wish, ratio)
    if wish.reject:
        without = np.array([row in plans and row not in made for row in range(len(images))])
        reasons = [plans[row].problem if row in plans else "" for row in range(len(images))]
        cropped = cropped.reject(without, Rejection.NO_CROP, reasons)
    return replace(cropped, notes=(*images.notes, *notes))


def _planned(
    values: Mapping[str, Any],
    size: tuple[int, int],
    wish: CropWish,
    ratio: Fraction,
    layout: str | None,
) -> _Plan:
    face = values["face_box"]
    points = np.asarray(values["face_landmarks"], dtype=np.float64).reshape(5, 2)
    head = head_of(face, points, values["yaw"], layout)
    where = crop_box(size, face, head, wish.framing, ratio)
    if where.box is None:
        return _Plan(problem=where.problem)
    left, top, right, bottom = where.box
    width, height = right - left, bottom - top
    least, short = wish.minimum_side or 1, min(width, height)
    if short < least:
        if not wish.upscale:
            return _Plan(
                problem=f"the crop would be {width} x {height} pixels; {least} are wanted at least"
            )
        scale = least / short
        width, height = max(least, round(width * scale)), max(least, round(height * scale))
    name = PurePosixPath(values.get("source") or values["path"]).name
    generation = _parsed(values.get("generation"))
    record = CropRecord(name, values["hash"], size, where.box, (width, height), generation)
    return _Plan(record)


def _parsed(text: Any) -> Mapping[str, Any] | None:
    try:
        value = parse(text)
    except (TypeError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _cut_all(
    images: ImageSet, folder: Path, plans: dict[int, _Plan], progress: Progress
) -> dict[int, tuple[Path, str]]:
    """Write the crops that are not there: path and hash by row; a failure goes into its plan."""
    wanted = [(row, plan.record) for row, plan in plans.items() if plan.record is not None]
    if not wanted:
        return {}
    paths = images.paths()
    made: dict[int, tuple[Path, str]] = {}
    progress.start("Cropping", len(wanted))

    def one(task: tuple[int, CropRecord]) -> tuple[Path, str] | str:
        row, record = task
        target = crop_path(folder, record)
        if crop_record(target) != record:
            try:
                part = cut_file(paths[row], record)
            except decoding_errors() as error:
                return getattr(error, "strerror", None) or str(error)
            write_crop(part, target, record)
        return target, content_hash(target)

    with ThreadPoolExecutor(max_workers=min(8, processors())) as pool:
        for (row, _), result in zip(wanted, pool.map(one, wanted), strict=True):
            if isinstance(result, str):
                plans[row] = _Plan(problem=f"it can't be cut: {result}")
            else:
                made[row] = result
            progress.advance(1, paths[row].name)
    progress.finish()
    return made


def crop_path(folder: Path, record: CropRecord) -> Path:
    """Return where a crop lies: under its original's name, in a folder named by its record."""
    digest = hashlib.sha256(record.to_text().encode()).hexdigest()[:12]
    stem = PurePosixPath(record.source).stem
    return folder / digest / f"{stem}.png"


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


def _with_crops(
    images: ImageSet, made: Mapping[int, tuple[Path, str]], plans: Mapping[int, _Plan]
) -> ImageSet:
    """Return the set with crops in the place of their originals."""
    table = images.table
    rows = range(len(images))
    records = [plans[row].record if row in made else None for row in rows]
    names = table["source"] if "source" in table.columns else table["path"]
    root, paths = _common(images, made)
    more: list[pl.Series] = []
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
            pl.Series("crop_box", [list(r.box) if r else None for r in records],
                      pl.List(pl.Int32)),
            pl.Series("crop_source_hash", [r.source_hash if r else None for r in records],
                      pl.String),
            pl.Series("crop_scale", [r.scale if r else None for r in records], pl.Float64),
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


def _notes(
    plans: Mapping[int, _Plan],
    made: Mapping[int, tuple[Path, str]],
    candidates: int,
    wish: CropWish,
    ratio: Fraction,
) -> list[str]:
    """Say how many images were cropped, how many not and why."""
    records = [plans[row].record for row in made]
    notes = [
        f"{len(made)} of {candidates} images cropped to {wish.framing} at "
        f"{ratio.numerator}:{ratio.denominator}."
    ]
    problems = Counter(plan.problem for row, plan in plans.items() if row not in made)
    if problems:
        fate = "rejected" if wish.reject else "kept whole"
        reasons = "; ".join(f"{text} ({n})" for text, n in _grouped(problems).most_common())
        notes.append(f"{sum(problems.values())} {fate}, as the crop can't be had: {reasons}.")
    if candidates > len(plans):
        notes.append(
            f"{candidates - len(plans)} left as they are, to be judged as a whole: no certain face "
            "of the person was found in them."
        )
    enlarged = sum(r is not None and r.scale > 1 for r in records)
    if enlarged:
        notes.append(f"{enlarged} crops enlarged to {wish.minimum_side} pixels.")
    small = sum(r is not None and min(r.size) < SMALL for r in records)
    if small and not wish.minimum_side:
        notes.append(f"{small} crops have a shorter side of less than {SMALL} pixels.")
    return notes


def _grouped(problems: Mapping[str, int]) -> Counter[str]:
    """Count reasons, those that differ in numbers alone as one."""
    counted: Counter[str] = Counter()
    for text, count in problems.items():
        small = text.startswith("the crop would be ")
        counted["the crop would be too small" if small else text] += count
    return counted
