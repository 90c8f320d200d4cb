"""What makes an image unfit as a whole: bars at its edges, and several images in one.

Bars are lines of one color along an edge that end in a step: a plain backdrop does not. Several
images in one have a step along one straight line, pixel by pixel, from edge to edge.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .decoding import Pixels, decode_ahead

if TYPE_CHECKING:
    from ..features import FeatureStore

ANALYSER, FINGERPRINT = "blemishes", "2"

SEAM_FROM = 0.96
"""Least share of a line from edge to edge along which an image steps, of several images in one.

Of 341 photographs 14 reach it, nine of which are several images, or screens; of 120 grids made of
them (one by two to three by three, with and without bars between, JPEG quality 85) 97 %."""

BARS_FROM = 0.02
"""Share of the image's area from which bars are cut off unless another is asked for."""

_SIDE = 2048
_ALIKE, _STEP = 8.0, 12.0
"""Grey values: how much a line of a bar may vary, and what a step is at least."""
_ENDS_SHARP = 0.5
"""Share of a bar's last line beside which the image steps."""
_MOST = 0.45
_SAMPLES = 1024
_FORM = struct.Struct("<5d2i")


@dataclass(frozen=True)
class Blemishes:
    """What an image has that spoils it as a whole.

    Attributes:
        inner: What lies within bars at the edges: left, top, right, bottom as shares of width and
            height.
        seam: Share of the straightest line from edge to edge along which the image steps.
        size: Width and height of the image in pixels, upright.
    """

    inner: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    seam: float = 0.0
    size: tuple[int, int] = (0, 0)

    @property
    def bars(self) -> float:
        """Share of the image's area that bars take."""
        left, top, right, bottom = self.inner
        return 1 - (right - left) * (bottom - top)

    def to_bytes(self) -> bytes:
        """Pack for the feature store."""
        return _FORM.pack(*self.inner, self.seam, *self.size)

    @staticmethod
    def from_bytes(data: bytes) -> Blemishes:
        """Unpack what :meth:`to_bytes` made."""
        left, top, right, bottom, seam, width, height = _FORM.unpack(data)
        return Blemishes((left, top, right, bottom), seam, (width, height))


def blemishes(image: Pixels) -> Blemishes:
    """Measure an image (BGR, uint8)."""
    left, top, right, bottom = inner_box(image)
    height, width = image.shape[:2]
    inner = (left / width, top / height, right / width, bottom / height)
    return Blemishes(inner, seam(image[top:bottom, left:right]), (width, height))


def inner_box(image: Pixels) -> tuple[int, int, int, int]:
    """Return what lies within bars of one color at the edges: left, top, right, bottom in pixels.

    Args:
        image: BGR, uint8.
    """
    height, width = image.shape[:2]
    top, bottom = _bar(image, 0), height - _bar(image[::-1], 0)
    middle = image[top:bottom]
    left, right = _bar(middle, 1), width - _bar(middle[:, ::-1], 1)
    return left, top, right, bottom


def _bar(image: Pixels, axis: int) -> int:
    """Return how many lines at the start of an axis are a bar that ends in a step."""
    lines = image if axis == 0 else image.swapaxes(0, 1)
    every = max(1, lines.shape[1] // _SAMPLES)
    lines = lines[: max(1, int(lines.shape[0] * _MOST) + 17), ::every]
    first = lines[0].astype(np.float32)
    color = np.median(first, axis=0)
    count = 0
    while count < len(lines) and _is_plain(lines[count], color):
        count += 1
    if count in (0, len(lines)):
        return 0
    # Compression smears the step over the block that it lies in: sixteen lines, in the colors.
    for end in range(count, min(count + 17, len(lines))):
        stepped = np.abs(lines[end].astype(np.float32) - color).max(axis=1) > _STEP
        if stepped.mean() >= _ENDS_SHARP:
            return end
    return 0


def _is_plain(line: Pixels, color: Any) -> bool:
    away = np.abs(line.astype(np.float32) - color).max(axis=1)
    return float(np.quantile(away, 0.98)) <= _ALIKE


def seam(image: Pixels) -> float:
    """Return the share of the straightest line from edge to edge along which an image steps.

    Lines near the edges do not count, and where all of the surroundings step (a texture), less.

    Args:
        image: BGR, uint8.
    """
    import cv2

    height, width = image.shape[:2]
    if min(height, width) < 32:
        return 0.0
    scale = min(1.0, _SIDE / max(height, width))
    small = image
    if scale < 1:
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return max(_seam_across(small), _seam_across(np.asarray(cv2.transpose(small), dtype=np.uint8)))


def _seam_across(image: Pixels) -> float:
    import cv2

    step = cv2.absdiff(np.ascontiguousarray(image[:, 2:]), np.ascontiguousarray(image[:, :-2]))
    blue, green, red = cv2.split(step)
    share = (cv2.max(cv2.max(blue, green), red) > 10).mean(axis=0)
    count = len(share)
    reach = max(2, count // 100)
    best = 0.0
    for x in np.flatnonzero(share > 0.8):
        if not 0.08 * count <= x <= 0.92 * count:
            continue
        beside = np.concatenate(
            [share[max(0, x - 4 * reach) : max(0, x - reach)], share[x + reach : x + 4 * reach]]
        )
        around = float(np.median(beside)) if len(beside) else 0.0
        best = max(best, min(float(share[x]), float(share[x]) - around + 0.35))
    return best


@dataclass(frozen=True)
class BlemishLimits:
    """What images are rejected for; ``None`` is not looked for.

    Attributes:
        bars: Most area that bars at the edges may take, as a share of the image's.
        seam: From which :func:`seam` on an image is several.
    """

    bars: float | None = None
    seam: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is looked for."""
        return (self.bars, self.seam) != (None, None)


def reject_blemished(
    images: ImageSet, store: FeatureStore, limits: BlemishLimits, progress: Progress = silent
) -> ImageSet:
    """Reject images with bars at their edges, and those of several images in one.

    In this order, as ``bars`` or ``several_images``. Adds ``bar_share`` and ``seam``.

    Args:
        images: The candidates; only accepted ones are looked at.
        store: Where measurements are kept.
        limits: What is rejected; nothing is looked at where nothing is.
        progress: Watches.
    """
    if not limits.any:
        return images
    known = known_blemishes(images, store, progress)
    bars = np.array([0.0 if one is None else one.bars for one in known])
    seams = np.array([0.0 if one is None else one.seam for one in known])
    unknown = [one is None for one in known]
    images = images.with_columns(
        pl.Series("bar_share", [None if u else b for u, b in zip(unknown, bars, strict=True)],
                  pl.Float64),
        pl.Series("seam", [None if u else v for u, v in zip(unknown, seams, strict=True)],
                  pl.Float64),
    )  # fmt: skip
    if limits.bars is not None:
        words = [
            f"bars at the edges take {share:.1%} of the image; {limits.bars:.1%} are let pass"
            for share in bars
        ]
        images = images.reject(bars > limits.bars, Rejection.BARS, words)
    if limits.seam is not None:
        words = [
            f"{share:.1%} of a straight line from edge to edge divide it: several images in one"
            for share in seams
        ]
        images = images.reject(seams >= limits.seam, Rejection.SEVERAL_IMAGES, words)
    return images


def known_blemishes(
    images: ImageSet, store: FeatureStore, progress: Progress = silent
) -> list[Blemishes | None]:
    """Return what the store knows of each row, having measured what it lacks.

    ``None`` for rejected rows of which it knows nothing, and for what can't be read.
    """
    hashes = images.table["hash"].to_list()
    accepted = images.accepted_mask()
    rows = {key: row for row, key in enumerate(hashes) if key and accepted[row]}
    known = dict(store.get(list(rows), ANALYSER, FINGERPRINT))
    missing = [key for key in rows if key not in known]
    if missing:
        paths = images.paths()
        progress.start("Looking for bars and grids", len(missing))
        fresh: dict[str, bytes] = {}
        for decoded in decode_ahead([paths[rows[key]] for key in missing], _measure):
            if decoded.found is not None:  # what can't be read, a later stage says
                fresh[missing[decoded.index]] = decoded.found
            progress.advance()
        store.put(fresh, ANALYSER, FINGERPRINT)
        known |= fresh
        progress.finish()
    return [Blemishes.from_bytes(known[key]) if key in known else None for key in hashes]


def _measure(pixels: Pixels) -> bytes:
    return blemishes(pixels).to_bytes()
