"""The crop stage: each image becomes the part of it that shows the person in a framing.

Faces are looked for in the originals, the face of the person is chosen as everywhere else, and the
part around it is written as a PNG file without loss. Every later stage reads that file, so that
what is measured is what is exported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import how_many, worded
from ..defaults import CropFraming
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .crop_boxes import aspect_of, crop_box, head_of
from .crop_files import CropPlan, cut_all, planned, with_crops
from .face_validation import FaceThresholds, validate_faces
from .pixels import known_pixels

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .face_analyser import FaceAnalyser

SMALL = 512
"""Crops with a shorter side below this are counted in what is said."""


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
    plans: dict[int, CropPlan] = {}
    paths = found.paths()
    for row, values in enumerate(found.table.iter_rows(named=True)):
        measured = sizes[row]
        if values["rejection"] is None and values["face_box"] is not None and measured is not None:
            size = (measured.width, measured.height)
            plans[row] = _planned(values, paths[row], size, wish, ratio, limits.layout)
    made = cut_all(images, folder, plans, progress)
    cropped = with_crops(images, made, plans)
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
    path: Path,
    size: tuple[int, int],
    wish: CropWish,
    ratio: Fraction,
    layout: str | None,
) -> CropPlan:
    face = values["face_box"]
    points = values["face_landmarks"]
    marks = None if points is None else np.asarray(points, dtype=np.float64).reshape(5, 2)
    head = head_of(face, marks, values["yaw"], layout)
    where = crop_box(size, face, head, wish.framing, ratio)
    if where.box is None:
        return CropPlan(problem=where.problem)
    left, top, right, bottom = where.box
    width, height = right - left, bottom - top
    least, short = wish.minimum_side or 1, min(width, height)
    if short < least:
        if not wish.upscale:
            return CropPlan(
                problem=f"the crop would be {width} x {height} pixels; {least} are wanted at least"
            )
        scale = least / short
        width, height = max(least, round(width * scale)), max(least, round(height * scale))
    return planned(values, path, size, where.box, (width, height))


def _notes(
    plans: Mapping[int, CropPlan],
    made: Mapping[int, tuple[Path, str]],
    candidates: int,
    wish: CropWish,
    ratio: Fraction,
) -> list[str]:
    """Say how many images were cropped, how many not and why."""
    records = [plans[row].says for row in made]
    notes = [
        f"{len(made):,} of {how_many(candidates, 'image')} cropped to {wish.framing} at "
        f"{ratio.numerator}:{ratio.denominator}."
    ]
    problems = Counter(plan.problem for row, plan in plans.items() if row not in made)
    if problems:
        fate = "rejected" if wish.reject else "kept whole"
        reasons = "; ".join(f"{text} ({n})" for text, n in _grouped(problems).most_common())
        notes.append(f"{sum(problems.values())} {fate}, as the crop can't be had: {reasons}.")
    if candidates > len(plans):
        notes.append(
            f"{candidates - len(plans):,} left as "
            f"{worded(candidates - len(plans), 'it is', 'they are')}, to be judged as a whole: no "
            "certain face of the person was found in "
            f"{worded(candidates - len(plans), 'it', 'them')}."
        )
    enlarged = sum(r is not None and r.scale > 1 for r in records)
    if enlarged:
        notes.append(f"{how_many(enlarged, 'crop')} enlarged to {wish.minimum_side} pixels.")
    small = sum(r is not None and min(r.size) < SMALL for r in records)
    if small and not wish.minimum_side:
        notes.append(
            f"{how_many(small, 'crop has', 'crops have')} a shorter side of less than {SMALL} "
            "pixels."
        )
    return notes


def _grouped(problems: Mapping[str, int]) -> Counter[str]:
    """Count reasons, those that differ in numbers alone as one."""
    counted: Counter[str] = Counter()
    for text, count in problems.items():
        small = text.startswith("the crop would be ")
        counted["the crop would be too small" if small else text] += count
    return counted
