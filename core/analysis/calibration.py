"""What a face pack's numbers mean: how certain a face is, and when two are one person's.

Detectors score differently: what one calls 0.95 another never gives. A calibrated confidence says
where a face stands among the faces of ordinary photographs as that detector scores them, so that a
threshold means the same for every pack: of sharp, unobstructed faces 95 % reach 0.85, three
quarters 0.90, half 0.95. Between these anchors the curve is linear in the detector's own score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from .. import atomic
from ..counts import how_many
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text

CALIBRATION_FILE = "calibration.json"
"""In a pack's folder: what was measured with it."""
FORMAT = 1
_LARGEST = 1000.0
"""No score is larger; numbers that are overflow on the way between two points."""
ANCHORS = ((0.05, 0.85), (0.25, 0.90), (0.50, 0.95), (0.95, 1.0))
"""Share of ordinary faces that score less, and the calibrated confidence there."""
LEAST_CONFIDENCE = 0.5
"""Calibrated confidence of what the detector only just calls a face."""


class CalibrationError(CuratorError):
    """A calibration cannot be read, or cannot be made of what there is."""


@dataclass(frozen=True)
class Calibration:
    """How a pack's scores and similarities are read.

    Attributes:
        curve: Points (detector's score, calibrated confidence), both rising; without any, the
            score itself is the confidence.
        identity: Least cosine similarity of two images of one person; ``None`` where that is not
            known, and similarity is then only reported.
        photographs: Whether the pack is for real images. Then several detection sizes are tried,
            the calibrated quality is the default, and a reference filters.
        source: What it was measured on.
    """

    curve: tuple[tuple[float, float], ...] = ()
    identity: float | None = None
    photographs: bool = True
    source: str = ""

    def confidence(self, scores: npt.ArrayLike) -> NDArray[np.float64]:
        """Return the confidence of a detector's scores; in [0, 1] where there is a curve."""
        values = np.asarray(scores, dtype=np.float64)
        if not self.curve:
            return values
        raw, calibrated = np.array(self.curve, dtype=np.float64).T
        return np.asarray(np.interp(values, raw, calibrated))

    def doubt(self, least: float | None) -> str:
        """Say so where a least similarity lets other people pass; empty otherwise.

        Args:
            least: What was asked for; below 0 it only reports, and that is known.
        """
        if self.identity is None or least is None or not 0 <= least < self.identity:
            return ""
        return (
            f"A similarity of {least:g} is below {self.identity:g}, from which on this face pack "
            "takes two images for one person's: others may pass."
        )

    def to_json(self) -> str:
        """Write down for :meth:`read`."""
        values = {
            "format": FORMAT,
            "confidence": [list(point) for point in self.curve],
            "identity": self.identity,
            "source": self.source,
        }
        return json.dumps(values, indent=1) + "\n"

    def write(self, folder: Path) -> Path:
        """Write into a pack's folder, atomically; return the file."""
        path = folder / CALIBRATION_FILE
        with atomic.replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")
        return path

    @staticmethod
    def read(folder: Path) -> Calibration | None:
        """Read what lies in a pack's folder; ``None`` where nothing does.

        Raises:
            CalibrationError: The file is damaged or of a later version.
        """
        path = folder / CALIBRATION_FILE
        if not path.is_file():
            return None
        try:
            values = parse(plain_text(path), strict=True)
            if values["format"] > FORMAT:
                raise ValueError(f"its format {values['format']} is of a later version")
            curve = tuple((float(raw), float(value)) for raw, value in values["confidence"])
            if not all(abs(place) <= _LARGEST for point in curve for place in point):
                raise ValueError("its points are beyond all measure")
            if any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise(curve)):
                raise ValueError("its points do not rise")
            identity = values.get("identity")
            return Calibration(
                curve,
                None if identity is None else float(identity),
                source=str(values.get("source", "")),
            )
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise CalibrationError(
                f"{path} cannot be used: {error}. Measure it again with 'character-curator faces "
                "PACK FOLDER --write', or take the file away."
            ) from error


def curve_of(scores: Sequence[float], threshold: float) -> tuple[tuple[float, float], ...]:
    """Return the confidence curve of a detector, of its scores of ordinary faces.

    Args:
        scores: The detector's score of each face.
        threshold: The score from which on the detector calls something a face.

    Raises:
        CalibrationError: There are fewer than 40 scores, so that no twentieth of them can be told.
    """
    if len(scores) < 40:
        raise CalibrationError(
            f"Only {how_many(len(scores), 'face was', 'faces were')} found; 40 are needed to "
            "calibrate a detector. Name a folder with more photographs of one person each."
        )
    points = [(float(threshold), LEAST_CONFIDENCE)]
    for share, confidence in ANCHORS:
        raw = float(np.quantile(np.asarray(scores, dtype=np.float64), share))
        if raw > points[-1][0] + 1e-4:
            points.append((round(raw, 4), confidence))
    return tuple(points)
