"""Small images: all that is needed of an image to tell whether another is a copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .decoding import Pixels

Grey = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

SIDE = 128
"""Width and height of the grey image that is kept of each."""
COARSE = 16
"""Width and height of what is compared coarsely."""

WINDOWS = [(0.0, 0.0, 1.0)] + [
    ((1 - size) * x, (1 - size) * y, size)
    for size in (0.95, 0.9)
    for x in (0.0, 0.5, 1.0)
    for y in (0.0, 0.5, 1.0)
]
"""Left, top and size of the parts of an image that are compared, as shares of it."""


class Small(NamedTuple):
    """A small image: its lightness, and coarsely its colors."""

    grey: Grey
    """Shape ``(SIDE, SIDE)``."""
    chroma: NDArray[np.int8]
    """a and b of CIE Lab, shape ``(16, 16, 2)``."""

    @staticmethod
    def of(image: Pixels) -> Small:
        """Shrink an image (BGR, uint8) to a square, whatever its shape."""
        import cv2

        color = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(color, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(coarse, cv2.COLOR_BGR2LAB)[..., 1:].astype(np.int16) - 128
        grey = cv2.cvtColor(color, cv2.COLOR_BGR2GRAY)
        return Small(np.asarray(grey, np.uint8), lab.clip(-128, 127).astype(np.int8))

    @property
    def mirrored(self) -> Small:
        """The image as a mirror shows it."""
        return Small(np.ascontiguousarray(self.grey[:, ::-1]), self.chroma[:, ::-1])

    def to_bytes(self) -> bytes:
        """Pack for the feature store."""
        return self.grey.tobytes() + np.ascontiguousarray(self.chroma).tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> Small:
        """Unpack what :meth:`to_bytes` made."""
        grey = np.frombuffer(data, np.uint8, SIDE * SIDE).reshape(SIDE, SIDE)
        chroma = np.frombuffer(data, np.int8, offset=SIDE * SIDE).reshape(COARSE, COARSE, 2)
        return Small(grey, chroma)


NOTHING = Small(np.zeros((SIDE, SIDE), np.uint8), np.zeros((COARSE, COARSE, 2), np.int8))
"""What stands for an image that was lost: a copy of none."""


def coarse_windows(
    grey: Grey, windows: Sequence[tuple[float, float, float]] = WINDOWS
) -> FloatArray:
    """Return the coarse vector of windows of an image; of all of them, the whole of it first."""
    import cv2

    soft = cv2.GaussianBlur(grey, (0, 0), SIDE / COARSE * 0.5).astype(np.float32)
    return np.stack([_coarse(soft, window) for window in windows])


def mirrored_windows(vectors: FloatArray) -> FloatArray:
    """Return the coarse vectors of mirrored images."""
    turned = vectors.reshape(-1, COARSE, COARSE)[:, :, ::-1]
    return np.ascontiguousarray(turned).reshape(len(vectors), -1)


def _coarse(soft: FloatArray, window: tuple[float, float, float]) -> FloatArray:
    """Return a part of an image as a vector of mean 0 and length 1, blind to brightness."""
    import cv2

    left, top, size = window
    step = size * SIDE / COARSE
    shift = np.array(
        [[step, 0, left * SIDE + (step - 1) / 2], [0, step, top * SIDE + (step - 1) / 2]],
        np.float32,
    )
    part = cv2.warpAffine(
        soft, shift, (COARSE, COARSE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).ravel()  # fmt: skip
    part = part - part.mean()
    return np.asarray(part / max(float(np.linalg.norm(part)), 1e-6), np.float32)
