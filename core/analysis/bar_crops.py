"""Bars at the edges, cut off: what lies within them becomes the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..counts import how_many
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .blemishes import Blemishes, known_blemishes
from .crop_files import CropPlan, cut_all, planned, with_crops

if TYPE_CHECKING:
    from ..features import FeatureStore

_SMEAR = 3
"""Pixels of the image that go with a bar: compression mixes its color into them."""
_LEAST = 64
"""Pixels of a side below which what is left is no image."""


def cut_bars(
    images: ImageSet,
    store: FeatureStore,
    folder: Path,
    least: float,
    progress: Progress = silent,
) -> ImageSet:
    """Cut bars of one color off the edges of images.

    What is left is written as :func:`.cropping.crop_images` writes crops, with the same columns
    and the same record, so that it can be cut again from its original. A later crop of it names
    the original too. Where too little is left, the image is rejected as ``bars``.

    Args:
        images: The candidates; only accepted ones are looked at.
        store: Where measurements are kept.
        folder: Where what is left goes.
        least: Bars are cut off where they take more than this share of the image's area.
        progress: Watches.
    """
    known = known_blemishes(images, store, progress)
    accepted = images.accepted_mask()
    paths = images.paths()
    plans: dict[int, CropPlan] = {}
    for row, values in enumerate(images.table.iter_rows(named=True)):
        one = known[row]
        if one is None or not accepted[row] or one.bars <= least:
            continue
        box = within_bars(one)
        across, down = box[2] - box[0], box[3] - box[1]
        if min(across, down) < _LEAST:
            problem = f"within its bars only {across} x {down} pixels are left"
            plans[row] = CropPlan(problem=problem)
        else:
            plans[row] = planned(values, paths[row], one.size, box, (across, down))
    if not plans:
        note = f"No bars to be cut off: none takes more than {least:.1%} of an image."
        return replace(images, notes=(*images.notes, note))
    made = cut_all(images, folder, plans, progress)
    problems = [plans[row].problem if row in plans else "" for row in range(len(images))]
    cut = with_crops(images, made, plans).reject(
        np.array([bool(problem) for problem in problems]), Rejection.BARS, problems
    )
    note = f"Bars were cut off {len(made)} of {how_many(int(accepted.sum()), 'image')}."
    left = len(plans) - len(made)
    if left:
        note += f" {left} rejected: too little is left of them, or they can't be cut."
    return replace(cut, notes=(*images.notes, note))


def within_bars(found: Blemishes) -> tuple[int, int, int, int]:
    """Return what is surely within an image's bars: left, top, right, bottom in pixels."""
    width, height = found.size
    left, top, right, bottom = found.inner
    return (
        round(left * width) + (_SMEAR if left > 0 else 0),
        round(top * height) + (_SMEAR if top > 0 else 0),
        round(right * width) - (_SMEAR if right < 1 else 0),
        round(bottom * height) - (_SMEAR if bottom < 1 else 0),
    )
