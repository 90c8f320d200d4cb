"""What the pixels alone say: sharpness, contrast and size, or why there are none."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..counts import how_many, worded
from ..errors import CuratorError
from ..imageset import ImageSet
from ..naming import located
from ..rejection_reasons import Rejection
from .decoding import MAX_PIXELS, Pixels

if TYPE_CHECKING:
    from ..features import FeatureStore

ANALYSER = "pixels"
FINGERPRINT = f"laplacian-variance, grey deviation/1, at most {MAX_PIXELS} pixels"
_LARGE = 2**22
"""Pixels above which a fifth of the time and a sixth of the memory is worth a difference in the
last digits (a part in 10^12) from numpy's own variance."""
_LAYOUT = struct.Struct("<ddii")


@dataclass(frozen=True)
class PixelMeasurement:
    """Sharpness, contrast and size of one image."""

    sharpness: float
    """Variance of the Laplacian of the grey image."""
    contrast: float
    """Standard deviation of the grey image."""
    width: int
    """Pixels, after the EXIF orientation is applied."""
    height: int
    reason: str = ""
    """Why the image cannot be read; the numbers are then 0."""

    @staticmethod
    def of(image: Pixels) -> PixelMeasurement:
        """Measure decoded pixels (BGR, uint8)."""
        import cv2

        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        height, width = gray.shape
        if gray.size > _LARGE:
            # The Laplacian of bytes is whole and below 1,021, so that 16 bits hold it.
            deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))[1].item()
            contrast = cv2.meanStdDev(gray)[1].item()
            return PixelMeasurement(deviation**2, contrast, width, height)
        sharpness = cv2.Laplacian(gray, cv2.CV_64F).var()
        return PixelMeasurement(float(sharpness), float(gray.std()), width, height)

    @staticmethod
    def unreadable(reason: str) -> PixelMeasurement:
        """Record that an image has no pixels."""
        return PixelMeasurement(0.0, 0.0, 0, 0, reason)

    def to_bytes(self) -> bytes:
        """Pack for the feature store."""
        numbers = _LAYOUT.pack(self.sharpness, self.contrast, self.width, self.height)
        return numbers + self.reason.encode()

    @staticmethod
    def from_bytes(data: bytes) -> PixelMeasurement:
        """Unpack what :meth:`to_bytes` made."""
        sharpness, contrast, width, height = _LAYOUT.unpack_from(data)
        reason = data[_LAYOUT.size :].decode()
        return PixelMeasurement(sharpness, contrast, width, height, reason)


def known_pixels(images: ImageSet, store: FeatureStore) -> list[PixelMeasurement | None]:
    """Return what the store knows of each row; ``None`` for nothing, and for unreadable files."""
    hashes = images.table["hash"].to_list()
    found = store.get([h for h in hashes if h], ANALYSER, FINGERPRINT)
    known = {key: PixelMeasurement.from_bytes(value) for key, value in found.items()}
    measured = [known.get(key) if key else None for key in hashes]
    return [m if m and not m.reason else None for m in measured]


class LostImagesError(CuratorError):
    """Images that have just been made, or were read a moment ago, cannot be read any more."""


def require_readable(images: ImageSet) -> None:
    """Refuse a measured set of which something has been lost since it was made.

    A figure of the images that are left would be another's, and taken for that of all of them.

    Args:
        images: After a sweep, of images that were whole before it.

    Raises:
        LostImagesError: Some of them were rejected as unreadable.
    """
    lost = images.table.filter(pl.col("rejection") == Rejection.UNREADABLE.value)
    if not len(lost):
        return
    path, reason = lost.select("path", "rejection_detail").row(0)
    raise LostImagesError(
        f"{len(lost):,} of {how_many(len(images), 'image')} that "
        f"{worded(len(images), 'was', 'were')} there a moment ago cannot be read any "
        f"more (of {located(images.root, path)}: {reason or 'it is gone'}), so nothing is said of "
        "them. Run the same again when the disk is in order: what is missing is made again."
    )


def reject_unreadable(images: ImageSet, reasons: Sequence[str]) -> ImageSet:
    """Reject the rows that have a reason."""
    return images.reject(np.array([bool(r) for r in reasons]), Rejection.UNREADABLE, reasons)
