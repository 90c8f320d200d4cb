"""Where to cut an image around a face: a framing, an aspect ratio, and never through the head.

A face box reaches from the forehead to the chin. The head around it is estimated: in 96 photographs
of people whom SCRFD found, whose outline a segmentation gave, hair rises above the box by 0.25 of
the face's height in the median, by 0.33 in three of four and by 0.49 in nine of ten; beside it
reach 0.2 of its width (0.5 in one of ten), and as much as half of it on the side that a turned head
looks away from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from ..defaults import CropFraming
from ..errors import CuratorError
from .poses import ARCFACE_LAYOUT, head_angles

FRAMES: dict[CropFraming, tuple[float, float, float, str]] = {
    "close-up": (0.63, 0.60, 0.95, "1:1"),
    "bust": (0.44, 0.34, 0.60, "4:5"),
    "half": (0.21, 0.15, 0.34, "2:3"),
    "full": (0.09, 0.0, 0.15, "1:2"),
}
"""Of each framing the height of the face over the image's: what is aimed at, the least and the most
that still counts (as in :data:`.poses.FRAMINGS_BY_HEIGHT`); and its aspect ratio unless given."""

_NAMES = {"close-up": "close-up", "bust": "bust", "half": "half body", "full": "full body"}
_ABOVE, _BELOW, _BESIDE, _BEHIND = 0.42, 0.10, 0.22, 0.30
"""How far the head reaches beyond the face box, in heights and widths of the box."""
_FACE = 1.1
"""The ellipse of a face over its box: the corners of the box hold nothing of it."""
_MARGIN = 0.04
"""Room that is kept around the head, in heights of the face."""
_BODY = 9.6
"""From the top of the head to the feet, in heights of the face: seven and a half heads."""
_FEET_MISSING = 1.0
"""By so much, in heights of the face, the body may be shorter: people stand with bent knees."""
_LARGEST_ASPECT = 4.0
_LOOSER = 0.8
"""A tall crop around a wide head may show this much less of the face than its framing says."""

IntBox = tuple[int, int, int, int]
"""Left, top, right, bottom, in whole pixels."""


class AspectError(CuratorError):
    """A text is no aspect ratio."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"'{text}' is no aspect ratio: give width:height, such as 1:1, 4:5 or 832:1216, no "
            f"longer than {_LARGEST_ASPECT:g}:1."
        )


@dataclass(frozen=True)
class Head:
    """The head around a face: an ellipse that is tilted as the head is.

    Attributes:
        x: Of its centre, in pixels.
        y: Of its centre, in pixels.
        across: Half its width, in pixels.
        along: Half its height, from the crown to below the chin, in pixels.
        roll: Its tilt in degrees, clockwise.
    """

    x: float
    y: float
    across: float
    along: float
    roll: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The box around the ellipse: left, top, right, bottom."""
        turn = math.radians(self.roll)
        wide = math.hypot(self.across * math.cos(turn), self.along * math.sin(turn))
        high = math.hypot(self.across * math.sin(turn), self.along * math.cos(turn))
        return self.x - wide, self.y - high, self.x + wide, self.y + high


@dataclass(frozen=True)
class CropBox:
    """A part of an image, or why there is none.

    Attributes:
        box: The part; ``None`` where it can't be had.
        problem: Why not, in words; empty otherwise.
    """

    box: IntBox | None
    problem: str = ""


def aspect_of(text: str | None, framing: CropFraming) -> Fraction:
    """Return width over height.

    Args:
        text: ``width:height``; ``None`` takes what suits the framing.
        framing: What the crop shall show.

    Raises:
        AspectError: The text is no aspect ratio.
    """
    given = FRAMES[framing][3] if text is None else text
    found = re.fullmatch(r"\s*(\d{1,5})\s*[:x/]\s*(\d{1,5})\s*", given)
    if found is None or not int(found[1]) or not int(found[2]):
        raise AspectError(given)
    ratio = Fraction(int(found[1]), int(found[2]))
    if not 1 / _LARGEST_ASPECT <= ratio <= _LARGEST_ASPECT:
        raise AspectError(given)
    return ratio


def head_of(
    face: Sequence[float],
    landmarks: ArrayLike | None = None,
    yaw: float | None = None,
    layout: str | None = None,
) -> Head:
    """Estimate the head, hair included, around a face.

    Args:
        face: Box of the face from forehead to chin: left, top, right, bottom in pixels.
        landmarks: Its five points, from which its tilt follows; upright unless given.
        yaw: How far it is turned, from -1 (a profile to the left) to 1; frontal unless given.
        layout: Which points the landmarks are, see :data:`.poses.HEADS`.
    """
    left, top, right, bottom = (float(edge) for edge in face)
    width, height = right - left, bottom - top
    roll = 0.0
    if landmarks is not None:
        found = head_angles(landmarks, layout or ARCFACE_LAYOUT)[2]
        roll = found if math.isfinite(found) else 0.0
    turned = max(-1.0, min(1.0, yaw or 0.0))
    along = height * (1 + _ABOVE + _BELOW) / 2
    across = width * (1 + 2 * _BESIDE + _BEHIND * abs(turned)) / 2
    up, back = height * (_ABOVE - _BELOW) / 2, -turned * width * _BEHIND / 2
    turn = math.radians(roll)
    return Head(
        (left + right) / 2 + up * math.sin(turn) + back * math.cos(turn),
        (top + bottom) / 2 - up * math.cos(turn) + back * math.sin(turn),
        across,
        along,
        roll,
    )


def face_within(head: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the face box around which :func:`head_of` finds an upright head, seen frontally.

    Args:
        head: Its box: left, top, right, bottom.
    """
    left, top, right, bottom = head
    height, beside = (bottom - top) / (1 + _ABOVE + _BELOW), _BESIDE / (1 + 2 * _BESIDE)
    inset = (right - left) * beside
    return left + inset, top + _ABOVE * height, right - inset, bottom - _BELOW * height


def face_of(
    face: Sequence[float],
    landmarks: ArrayLike | None = None,
    yaw: float | None = None,
    layout: str | None = None,
) -> Head:
    """Return the ellipse of the face alone, from forehead to chin; arguments as :func:`head_of`."""
    left, top, right, bottom = (float(edge) for edge in face)
    roll = head_of(face, landmarks, yaw, layout).roll
    across, along = (right - left) * _FACE / 2, (bottom - top) * _FACE / 2
    return Head((left + right) / 2, (top + bottom) / 2, across, along, roll)


def crop_box(
    size: tuple[int, int],
    face: Sequence[float],
    head: Head,
    framing: CropFraming,
    aspect: Fraction,
) -> CropBox:
    """Find the part of an image that shows a person in a framing.

    It is as large as the framing wants, or as large as the image allows where that is still the
    framing; it holds the whole head with a margin, as far as the image itself does, and has the
    aspect ratio to half a pixel.

    Args:
        size: Width and height of the image in pixels.
        face: Box of the face from forehead to chin.
        head: See :func:`head_of`.
        framing: What shall be seen.
        aspect: Width over height.
    """
    wide, high = size
    tall = float(face[3]) - float(face[1])
    aim, least, most, _ = FRAMES[framing]
    margin = _MARGIN * tall
    x0, y0, x1, y1 = head.box
    kept = (max(0.0, x0 - margin), max(0.0, y0 - margin),
            min(float(wide), x1 + margin), min(float(high), y1 + margin))  # fmt: skip
    across, down = kept[2] - kept[0], kept[3] - kept[1]
    if across < 1 or down < 1 or tall <= 0:
        return CropBox(None, "the face lies outside of the image")
    name = f"{_NAMES[framing]} at {aspect.numerator}:{aspect.denominator}"
    ratio = float(aspect)
    wanted = max(tall / aim, down, across / ratio)
    height = min(wanted, float(high), wide / ratio)
    if height < max(down, across / ratio) - 1:
        return CropBox(None, f"the image is too small around the head for {name}")
    if tall / height > most:
        return CropBox(None, f"the image shows too little around the face for {name}")
    if tall / height < _LOOSER * least:
        return CropBox(None, f"the head is too wide for {name}")
    top = _top_of(framing, height, kept, y0)
    if framing == "full":
        feet = y0 + _BODY * tall
        if high < feet - _FEET_MISSING * tall:
            return CropBox(None, f"the image ends above the feet, for {name}")
        top = min(top, max(0.0, high - height))
        if min(top, kept[1]) + height < min(feet, high) - _FEET_MISSING * tall:
            return CropBox(None, f"the image shows too little around the face for {name}")
    return CropBox(_in_pixels(size, (height * ratio, height), head.x, top, kept))


def _top_of(framing: CropFraming, height: float, kept: Sequence[float], crown: float) -> float:
    """Return where a crop begins: the head in the middle of a close-up, else near the top."""
    if framing == "close-up":
        return (kept[1] + kept[3]) / 2 - height / 2
    return crown - 0.06 * height


def _in_pixels(
    size: tuple[int, int],
    wanted: tuple[float, float],
    middle: float,
    top: float,
    kept: tuple[float, float, float, float],
) -> IntBox:
    """Return the box in whole pixels, inside the image and around all of ``kept``."""
    width = min(size[0], max(1, round(wanted[0])))
    height = min(size[1], max(1, round(wanted[1])))
    left = _placed(middle - width / 2, width, size[0], kept[0], kept[2])
    upper = _placed(top, height, size[1], kept[1], kept[3])
    return left, upper, left + width, upper + height


def _placed(start: float, length: int, most: int, first: float, last: float) -> int:
    """Shift a stretch so that it covers another, and lies within the image."""
    start = min(max(start, last - length), first)
    return int(np.clip(round(start), 0, most - length))
