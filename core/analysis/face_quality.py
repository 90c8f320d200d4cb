"""The calibrated quality: how good a face's pixels are, whatever the resolution and the detector.

Each part is a score in [0, 1] that is 0.74, the default minimum, where it begins to matter; the
quality is the least of them, and so names what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..errors import CuratorError
from .face_looks import LOOK_COLUMNS
from .faces import FloatArray

FloatColumn = NDArray[np.float64]

CURVES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "face_sharpness": ((0.0, 0.0), (0.8, 0.3), (2.0, 0.74), (4.0, 0.9), (8.0, 1.0)),
    "face_noise": ((0.0, 1.0), (4.0, 0.95), (10.0, 0.74), (20.0, 0.3), (40.0, 0.0)),
    "face_brightness": ((0.0, 0.0), (25.0, 0.3), (40.0, 0.74), (70.0, 1.0)),
    "face_burnt": ((0.0, 1.0), (0.03, 0.9), (0.06, 0.74), (0.3, 0.2), (1.0, 0.0)),
    "face_crushed": ((0.0, 1.0), (0.1, 0.9), (0.25, 0.74), (0.6, 0.2), (1.0, 0.0)),
    "face_blocks": ((1.0, 1.0), (1.4, 0.9), (1.85, 0.74), (2.6, 0.3), (4.0, 0.0)),
}
"""What a measurement (:func:`.face_looks.face_looks`) is worth: (value, score), linear between."""

PARTS = {
    "face_sharpness": "sharpness",
    "face_noise": "noise",
    "face_brightness": "brightness",
    "face_burnt": "burnt highlights",
    "face_crushed": "crushed shadows",
    "face_blocks": "compression",
}
"""What each part is called, for people."""


def part_scores(looks: Mapping[str, npt.ArrayLike]) -> dict[str, FloatColumn]:
    """Score each measurement of many faces; NaN stays NaN.

    Args:
        looks: By column of :data:`.face_looks.LOOK_COLUMNS` one value a face.
    """
    scores = {}
    for name, curve in CURVES.items():
        values = np.asarray(looks[name], dtype=np.float64)
        known, score = np.array(curve).T
        scores[name] = np.where(np.isnan(values), np.nan, np.interp(values, known, score))
    return scores


class UnknownLooksError(CuratorError):
    """The calibrated quality is wanted where no pack has measured what it is of."""

    def __init__(self) -> None:
        super().__init__(
            "The calibrated quality is that of the face's pixels, which face packs for photographs "
            "measure and the embedded 'miniature' does not. Choose another face pack, or the "
            "formula 'seed-document'."
        )


def face_quality(looks: FloatArray) -> FloatColumn:
    """Return the calibrated quality of faces.

    Args:
        looks: Shape ``(n, k)``, from :func:`.face_looks.face_looks`.

    Returns:
        In [0, 1], shape ``(n,)``; NaN where nothing was measured.
    """
    columns = np.asarray(looks, dtype=np.float64).T
    scores = part_scores(dict(zip(LOOK_COLUMNS, columns, strict=True)))
    return np.asarray(np.min(list(scores.values()), axis=0))
