"""What the pixels of a face say: how sharp it is, how noisy, how exposed, how compressed.

The sharpness of a whole image falls with its resolution, rises with noise, and does not tell a
sharp background from a sharp face. Here it is measured on the face's box alone, scaled to
128 x 128 pixels, in the band of spatial frequencies that any blur which a person notices takes
away, less what noise adds to that band. The figures behind the choices are in
``docs/photographs.md``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .decoding import Pixels
from .faces import FloatArray

LOOKS = "face looks"
LOOKS_VERSION = "looks/1"
LOOK_COLUMNS = ("face_sharpness", "face_noise", "face_brightness", "face_burnt", "face_crushed",
                "face_blocks")  # fmt: skip
"""What :func:`face_looks` measures, as columns of an image set."""

SIDE = 128
"""Edge of the square in which sharpness is measured, in pixels."""
DETAIL = (0.09, 0.18)
"""Band of details, in cycles a pixel of that square: what is 6 to 11 pixels wide. A Gaussian blur
of 2 % of the face's width leaves a tenth of its power."""
SHAPE = (0.015, 0.06)
"""Band of the face's large shapes, whose power says how much contrast there is."""
NOISE_FROM = 0.38
"""Frequencies from here on are mostly noise: its level there is taken out of the details."""
NOISE_SIDE = 256
"""Faces larger than this are scaled down to it before noise is measured: finer noise is not seen
in training."""
BURNT, CRUSHED = 250, 8
"""Grey values from which on, and up to which, there is no drawing any more."""
_BLOCK = 8
_LEAST_STEP = 1.5
"""Grey values by which the edges of JPEG's blocks must stand out to count."""


def face_looks(image: Pixels, boxes: FloatArray) -> FloatArray:
    """Measure faces.

    Args:
        image: BGR, uint8, as it was decoded: JPEG's blocks lie at multiples of 8 pixels.
        boxes: Left, top, right, bottom of each, shape ``(n, 4)``, in pixels.

    Returns:
        Shape ``(n, 6)``: the columns :data:`LOOK_COLUMNS`, which are

        - sharpness: power of details over the square root of that of large shapes, the geometric
          mean over four directions (so that a smear in one of them counts);
        - noise: its standard deviation in grey values;
        - brightness: mean grey value;
        - burnt, crushed: shares of pixels without drawing, in [0, 1];
        - blocks: mean step at the edges of JPEG's blocks over the mean step within; 1 without
          such edges.

        NaN for a box that lies outside the image.
    """
    return np.array([_look(image, box) for box in boxes], np.float32).reshape(-1, len(LOOK_COLUMNS))


def looks_to_bytes(looks: FloatArray) -> bytes:
    """Pack for the feature store: rows of little-endian float32."""
    return np.asarray(looks, dtype="<f4").tobytes()


def looks_from_bytes(data: bytes) -> FloatArray:
    """Unpack what :func:`looks_to_bytes` made."""
    rows = np.frombuffer(data, dtype="<f4").astype(np.float32)
    return rows.reshape(-1, len(LOOK_COLUMNS))


def _look(image: Pixels, box: FloatArray) -> list[float]:
    import cv2

    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right - left < 4 or bottom - top < 4:
        return [float("nan")] * len(LOOK_COLUMNS)
    face = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
    shrinks = min(face.shape) >= SIDE
    square = cv2.resize(
        face, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    return [
        face_sharpness(square.astype(np.float64)),
        _noise(face),
        float(face.mean()),
        float((face >= BURNT).mean()),
        float((face <= CRUSHED).mean()),
        _blocks(face.astype(np.float64), left, top),
    ]


@lru_cache(maxsize=1)
def _bands() -> tuple[NDArray[np.float64], list[NDArray[np.bool_]], NDArray[np.bool_],
                      NDArray[np.bool_]]:  # fmt: skip
    """Return the window, the band of details by direction, that of shapes, and that of noise."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    down, across = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    ring = (radius >= DETAIL[0]) & (radius < DETAIL[1])
    sectors = [
        ring & ((angle - turn * np.pi / 4 + np.pi / 8) % np.pi < np.pi / 4) for turn in range(4)
    ]
    shape = (radius >= SHAPE[0]) & (radius < SHAPE[1])
    return window, sectors, shape, (radius > NOISE_FROM) & (radius <= 0.5)


def face_sharpness(square: NDArray[np.float64]) -> float:
    """Return the sharpness of a face of :data:`SIDE` pixels a side (grey values)."""
    window, sectors, shape, high = _bands()
    spectrum = np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2
    power = spectrum / (square.size * (window**2).mean())
    # The power of noise is exponentially distributed: its median is ln 2 of its mean.
    noise = float(np.median(power[high])) / np.log(2)
    details = [max(float(power[sector].mean()) - noise, 1e-3) for sector in sectors]
    shapes = max(float(power[shape].mean()), 1e-3)
    return float(np.exp(np.mean(np.log(details))) / np.sqrt(shapes))


def _noise(face: Pixels) -> float:
    """Return the standard deviation of noise (Immerkaer, 1996, with the median for the mean)."""
    import cv2

    scale = NOISE_SIDE / max(face.shape)
    if scale < 1:
        # Of a face as narrow as a line three rows are left: that many the mask looks at.
        size = None
        if min(face.shape) * scale < 3:
            size = (max(3, round(face.shape[1] * scale)), max(3, round(face.shape[0] * scale)))
        small = cv2.resize(face, size, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        face = np.asarray(small, np.uint8)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    rest = cv2.filter2D(face.astype(np.float32), cv2.CV_32F, mask)[1:-1, 1:-1]
    return float(np.median(np.abs(rest)) / 0.6745 / 6)


def _blocks(face: NDArray[np.float64], left: int, top: int) -> float:
    """Return how far steps at the edges of JPEG's blocks exceed those within."""
    edges = within = 0.0
    for axis, start in ((1, left), (0, top)):
        steps = np.abs(np.diff(face, axis=axis)).mean(axis=1 - axis)
        place = (np.arange(len(steps)) + start + 1) % _BLOCK
        if len(steps) < 2 * _BLOCK:
            return 1.0
        edges += float(steps[place == 0].mean())
        within += float(steps[(place >= 3) & (place <= 5)].mean())
    if (edges - within) / 2 < _LEAST_STEP:
        return 1.0
    return edges / (within + 0.2)
