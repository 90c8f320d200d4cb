"""What each threshold costs, alone and together, and which values would let more images pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..counts import how_many, worded
from ..imageset import ImageSet, strangers
from ..rejection_reasons import Rejection, in_words
from .face_validation import FaceThresholds
from .quality import MINIMUM_KEY

TARGETS = (20, 50, 100)
"""So many images are to pass, in the values that are suggested."""
BEST = 10
"""So many of the rejected are shown."""

IDENTITY_KEY = "faces.minimum_identity"

Naming = Literal["keys", "options", "words"]
"""What thresholds are called where people set them: in a project file, on the command line, on
nodes."""

_LOOKED_AT: dict[Naming, str] = {
    "keys": 'A lower one (quality.minimum), or quality.formula = "calibrated" with a pack for '
    "photographs, looks at them.",
    "options": "A lower one (--min-quality), or --quality-formula calibrated with a pack for "
    "photographs, looks at them.",
    "words": "A lower one, or the calibrated formula with a pack for photographs, looks at them.",
}

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdCost:
    """One threshold.

    Attributes:
        name: What it is called, for people.
        option: Its option on the command line.
        key: Its key in a project file.
        value: Where it stands.
        fails: How many images of one face are below it.
        fails_alone: How many of them are below no other.
        median: The median of those images.
        lets: By number of images, the value at which so many would pass, the others as they are;
            those that cannot be reached are left out.
        others_in: Whether it keeps other people than the references' out; no lower value is then
            suggested, neither here nor together with others.
    """

    name: str
    option: str
    key: str
    value: float
    fails: int
    fails_alone: int
    median: float
    lets: dict[int, float]
    others_in: bool = False


@dataclass(frozen=True)
class ThresholdCosts:
    """What the thresholds cost.

    Attributes:
        images: How many images there are.
        measured: How many of them show a face whose values are known.
        passing: How many of these pass every threshold.
        others: How many other reasons took, by reason.
        hopeless: In how many no face was looked for, because no face could lift their quality (by
            the seed-document formula) to the minimum.
        costs: Each threshold.
        together: By number of images, values of all thresholds at once (by option) that let so
            many pass, loosened as evenly as possible; those that cannot be reached are left out.
        best: Rows of the rejected images that come nearest, the nearest first.
    """

    images: int
    measured: int
    passing: int
    others: dict[str, int]
    hopeless: int
    costs: tuple[ThresholdCost, ...]
    together: dict[int, dict[str, float]]
    best: tuple[int, ...]

    def sentences(self, named: Naming = "keys") -> list[str]:
        """Say all of it, a line each.

        Args:
            named: What thresholds are called: keys of a project file, options of the command
                line, or words, as nodes have them.
        """
        lines = [
            f"{self.passing:,} of {how_many(self.images, 'image')} "
            f"{worded(self.passing, 'passes', 'pass')}; {self.measured:,} "
            f"{worded(self.measured, 'shows', 'show')} a face that was "
            "measured."
        ]
        if self.others:
            lines.append(
                "Without a threshold's doing: "
                + ", ".join(f"{in_words(why)} {count}" for why, count in self.others.items())
                + "."
            )
        if self.hopeless:
            lines.append(
                f"In {self.hopeless} no face was looked for: by "
                f"{worded(self.hopeless, 'its pixels alone it is', 'their pixels alone they are')} "
                f"below the minimum quality. {_LOOKED_AT[named]}"
            )
        costs = self.costs if self.measured else ()
        lines += [_said_of(cost, named) for cost in costs if cost.fails]
        if free := [f"{cost.name} {cost.value:g}" for cost in costs if not cost.fails]:
            lines.append(f"None of them is below {', '.join(free)}.")
        called = {cost.option: _called(cost, named) for cost in self.costs}
        for count, values in self.together.items():
            words = [f"{called[option]} {value:g}" for option, value in values.items()]
            lines.append(f"{count} pass with: {(' ' if named == 'options' else ', ').join(words)}")
        return lines


def _called(cost: ThresholdCost, named: Naming) -> str:
    """Return what comes before a value that is suggested for a threshold."""
    return {"options": cost.option, "keys": f"{cost.key} =", "words": f"{cost.name} of"}[named]


def _said_of(cost: ThresholdCost, named: Naming) -> str:
    """Return the line of one threshold that some images are below."""
    where = {"options": f" ({cost.option})", "keys": f" ({cost.key})", "words": ""}[named]
    lets = ", ".join(f"{value:g} lets {count:,} pass" for count, value in cost.lets.items())
    return (
        f"{cost.name} {cost.value:g}{where}: {cost.fails:,} below it, {cost.fails_alone} of them "
        f"below no other; median {cost.median:.2f}"
        + (f"; the others as they are, {lets}" if lets else "")
        + ("; a lower one takes other people" if cost.others_in else "")
        + "."
    )


def costs_of(images: ImageSet) -> ThresholdCosts | None:
    """Work out what the thresholds cost that the images went through; see :func:`threshold_costs`.

    Returns:
        None where the stages of faces and quality are not the ones that judged them.
    """
    limits = dict(images.limits)
    if not {MINIMUM_KEY, "faces.minimum_confidence"} <= limits.keys():
        return None
    thresholds = FaceThresholds(
        confidence=limits["faces.minimum_confidence"],
        share=limits["faces.minimum_share"],
        side=limits["faces.minimum_side"],
        identity=limits.get(IDENTITY_KEY),
    )
    return threshold_costs(images, thresholds, limits[MINIMUM_KEY])


def threshold_costs(
    images: ImageSet, thresholds: FaceThresholds, minimum_quality: float
) -> ThresholdCosts:
    """Work out what the thresholds of faces and quality cost.

    Args:
        images: After ``validate_faces`` and ``score_quality``.
        thresholds: What a valid face is.
        minimum_quality: Least quality.
    """
    table = images.table
    one = (table["face_count"].fill_null(0) == 1).to_numpy()
    strange = strangers(table).to_numpy()[one]
    limits = _limits(table, thresholds, minimum_quality)
    values = np.stack([column for *_, column in limits])[:, one]
    least = np.array([value for *_, value, _ in limits])
    # An identity is measured of valid faces only: what is not known fails no threshold.
    below = values < least[:, None]
    failing = below.sum(0)
    costs = []
    for row, (name, option, key, value, _) in enumerate(limits):
        others_pass = failing - below[row] == 0
        reachable = np.sort(values[row][others_pass & ~np.isnan(values[row])])[::-1]
        unknown = int((others_pass & np.isnan(values[row])).sum())
        lets = {
            count: _down(reachable[count - unknown - 1])
            for count in TARGETS
            if 0 < count - unknown <= len(reachable) and reachable[count - unknown - 1] < value
        }
        others_in = key == IDENTITY_KEY and bool(strange.any())
        known = values[row][~np.isnan(values[row])]
        costs.append(
            ThresholdCost(
                name, option, key, value, int(below[row].sum()),
                int((below[row] & (failing == 1)).sum()),
                float(np.median(known)) if len(known) else math.nan, {} if others_in else lets,
                others_in,
            )
        )  # fmt: skip
    near = _nearness(values, least)
    order = np.argsort(-near, kind="stable")
    loosened = order[~strange[order]]
    together = {}
    for count in TARGETS:
        if int((failing == 0).sum()) < count <= len(loosened):
            chosen = values[:, loosened[:count]]
            lowest = np.nanmin(np.where(np.isnan(chosen), np.inf, chosen), axis=1)
            together[count] = {
                option: _down(lowest[row])
                for row, (_, option, _, value, _) in enumerate(limits)
                if lowest[row] < value
            }
    rejected = (table["rejection"].is_not_null()).to_numpy()[one]
    rows = np.flatnonzero(one)
    best = tuple(int(rows[i]) for i in order if rejected[i])[:BEST]
    low = table["rejection"].fill_null("") == Rejection.LOW_QUALITY.value
    thresholded = {str(r) for r in _OF_THRESHOLDS}
    others = {why: n for why, n in images.rejections().items() if why not in thresholded}
    return ThresholdCosts(
        len(images), int(one.sum()), int((failing == 0).sum()), others,
        int((low & table["face_count"].is_null()).sum()), tuple(costs), together, best,
    )  # fmt: skip


_OF_THRESHOLDS = (
    Rejection.LOW_CONFIDENCE,
    Rejection.FACE_TOO_SMALL,
    Rejection.IDENTITY_MISMATCH,
    Rejection.LOW_QUALITY,
)

_Limit = tuple[str, str, str, float, FloatArray]


def _limits(table: pl.DataFrame, limits: FaceThresholds, quality: float) -> Sequence[_Limit]:
    """Return name, option, key, value and the images' values of each threshold."""

    def column(name: str) -> FloatArray:
        values = table[name].cast(pl.Float64).fill_null(np.nan)
        return np.asarray(values.to_numpy(), dtype=np.float64)

    boxes = table["face_box"].to_list()
    sides = np.array(
        [math.nan if b is None else min(b[2] - b[0], b[3] - b[1]) for b in boxes], np.float64
    )
    found: list[_Limit] = [
        ("minimum quality", "--min-quality", MINIMUM_KEY, quality, column("quality")),
        ("minimum confidence", "--min-confidence", "faces.minimum_confidence", limits.confidence,
         column("face_confidence")),
        ("minimum share", "--min-share", "faces.minimum_share", limits.share,
         column("face_share")),
        ("minimum side", "--min-side", "faces.minimum_side", limits.side, sides),
    ]  # fmt: skip
    if limits.identity is not None:
        found.append(
            ("minimum identity", "--min-identity", IDENTITY_KEY, limits.identity,
             column("identity_similarity"))
        )  # fmt: skip
    return found


def _nearness(values: FloatArray, least: FloatArray) -> FloatArray:
    """Return how near each image comes: 0 and more passes, below it is the worst shortfall."""
    short = (values - least[:, None]) / np.maximum(np.abs(least[:, None]), 1e-9)
    return np.asarray(np.nanmin(np.where(np.isnan(short), np.inf, short), axis=0))


def _down(value: float) -> float:
    """Round down to what a person would type, so that the image of this value passes."""
    digits = 3 if abs(value) < 10 else 0
    return math.floor(float(value) * 10**digits) / 10**digits
