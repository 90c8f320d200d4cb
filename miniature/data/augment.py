"""What happens to drawn images before a model of faces sees them in training.

Everything works on single uint8 RGB images with an explicit generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Degradation:
    """Probabilities of what a codec, a camera or a resize may have done to an image."""

    blur: float = 0.35
    resample: float = 0.3
    noise: float = 0.25
    jpeg: float = 0.2
    color: float = 0.6


def degrade(image: Image, rng: np.random.Generator, odds: Degradation | None = None) -> Image:
    """Soften, resample, add noise, compress and tint an image at random.

    Args:
        image: (h, w, 3).
        rng: Source of randomness.
        odds: Probability of each step.

    Returns:
        An image of the same size.
    """
    odds = odds or Degradation()
    height, width = image.shape[:2]
    if rng.random() < odds.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < odds.resample:
        factor = rng.uniform(0.4, 0.95)
        small = (max(8, round(width * factor)), max(8, round(height * factor)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < odds.color:
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)
        shift = rng.uniform(-18, 18)
        image = cv2.convertScaleAbs(image)
        table = np.arange(256)[:, None] * gain[None] + shift
        image = cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[:, None, :])
    if rng.random() < odds.noise:
        noise = rng.normal(0, rng.uniform(2, 10), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < odds.jpeg:
        quality = int(rng.integers(30, 90))
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(image, np.uint8)


def _region(image: Image, box: NDArray[np.float32]) -> tuple[slice, slice]:
    height, width = image.shape[:2]
    x0, y0 = np.floor(np.maximum(box[:2], 0)).astype(int)
    x1, y1 = np.ceil(np.minimum(box[2:], (width, height))).astype(int)
    return slice(int(y0), int(max(y1, y0 + 4))), slice(int(x0), int(max(x1, x0 + 4)))


def _oval(height: int, width: int) -> NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip((1.05 - np.hypot(x, y)) * 6, 0, 1)[..., None].astype(np.float32)


def ruin_face(
    image: Image, box: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Image, float]:
    """Spoil a face as a failing generator would.

    Args:
        image: (h, w, 3); left as it is.
        box: (4,) of the face.
        rng: Chooses how.

    Returns:
        The spoilt image and how much of a face is left, from 0 to 1.
    """
    image = image.copy()
    rows, columns = _region(image, box)
    face = image[rows, columns]
    height, width = face.shape[:2]
    kind = int(rng.integers(6))
    if kind == 0:  # features in the wrong places
        tiles = [(i, j) for i in range(3) for j in range(2)]
        order = rng.permutation(len(tiles))
        th, tw = height // 3, width // 2
        source = face.copy()
        for (i, j), k in zip(tiles, order, strict=True):
            a, b = tiles[int(k)]
            face[i * th : (i + 1) * th, j * tw : (j + 1) * tw] = source[
                a * th : (a + 1) * th, b * tw : (b + 1) * tw
            ]
        return image, 0.08
    if kind in (1, 2):  # melted
        strength = rng.uniform(0.08, 0.3)
        field = rng.normal(0, 1, (2, int(rng.integers(3, 6)), int(rng.integers(3, 6))))
        dx, dy = (
            cv2.resize(f.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
            for f in field
        )
        y, x = np.mgrid[:height, :width].astype(np.float32)
        edge = _oval(height, width)[..., 0]
        face[:] = cv2.remap(
            face.copy(),
            x + dx * edge * strength * width / 2,
            y + dy * edge * strength * height / 2,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return image, 0.6 if strength < 0.13 else (0.3 if strength < 0.18 else 0.08)
    if kind == 3:  # no features
        soft = cv2.GaussianBlur(face, (0, 0), float(rng.uniform(0.1, 0.2)) * width)
    elif kind == 4:  # upside down
        soft = face[::-1]
    else:  # one half covers the other
        soft = np.roll(face, int(rng.uniform(0.35, 0.65) * height), axis=0)
    oval = _oval(height, width)
    face[:] = (soft * oval + face * (1 - oval)).astype(np.uint8)
    return image, 0.08


def occlude_face(
    image: Image, box: NDArray[np.float32], cover: Image, rng: np.random.Generator
) -> tuple[Image, float]:
    """Hide about half of a face behind a piece of another image.

    Args:
        image: (h, w, 3); left as it is.
        box: (4,) of the face.
        cover: (h, w, 3); where the piece comes from.
        rng: Chooses the half.

    Returns:
        The image and how much of a face is left, from 0 to 1.
    """
    image = image.copy()
    rows, columns = _region(image, box)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    share = rng.uniform(0.4, 0.75)
    side = int(rng.integers(4))
    if side == 0:
        rows = slice(rows.start, rows.start + int(share * height))
    elif side == 1:
        rows = slice(rows.stop - int(share * height), rows.stop)
    elif side == 2:
        columns = slice(columns.start, columns.start + int(share * width))
    else:
        columns = slice(columns.stop - int(share * width), columns.stop)
    image[rows, columns] = cover[rows, columns]
    return image, 0.5 if share < 0.55 else 0.2
