"""Faults that photographs have, put into good ones: what a quality must turn away.

Each is the same for the same image: noise is drawn from its pixels' own seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from .decoding import Pixels


def blurred(image: Pixels, face_width: float, share: float) -> Pixels:
    """Blur an image by a Gaussian whose deviation is a share of the face's width."""
    import cv2

    sigma = max(share * face_width, 0.3)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


def noisy(image: Pixels, deviation: float) -> Pixels:
    """Add Gaussian noise of a deviation in grey values."""
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def exposed(image: Pixels, gain: float, lift: float = 0.0) -> Pixels:
    """Multiply grey values, add, and cut off what leaves the range."""
    return np.clip(image * np.float32(gain) + np.float32(lift), 0, 255).astype(np.uint8)


def compressed(image: Pixels, quality: int) -> Pixels:
    """Write and read as JPEG."""
    import cv2

    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


FAULTS: Mapping[str, Callable[[Pixels, float], Pixels]] = {
    "blur of 2 % of the face": lambda image, width: blurred(image, width, 0.02),
    "blur of 4 %": lambda image, width: blurred(image, width, 0.04),
    "blur of 2 %, noise 12": lambda image, width: noisy(blurred(image, width, 0.02), 12),
    "blur of 4 %, noise 25": lambda image, width: noisy(blurred(image, width, 0.04), 25),
    "burnt (x 2.2 + 30)": lambda image, width: exposed(image, 2.2, 30.0),
    "crushed (x 0.12)": lambda image, width: exposed(image, 0.12),
    "JPEG quality 10": lambda image, width: compressed(image, 10),
}
"""What spoils a photograph, given the width of its face in pixels."""

HARMLESS: Mapping[str, Callable[[Pixels, float], Pixels]] = {
    "noise 6": lambda image, width: noisy(image, 6),
    "JPEG quality 75": lambda image, width: compressed(image, 75),
    "darker (x 0.8)": lambda image, width: exposed(image, 0.8),
}
"""What a photograph may have."""
