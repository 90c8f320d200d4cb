"""Faces of one image, as every detector gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

DETECTION = "faces"
IDENTITY = "identity"
EACH_IDENTITY = "identity of each face"
MOST_FACES = 8
"""So many faces of an image are measured and identified, the most certain first."""

FloatArray = NDArray[np.float32]
_ROW = 15  # box, score, five landmarks


@dataclass(frozen=True)
class Faces:
    """The faces of one image, the most certain first. Coordinates are pixels."""

    boxes: FloatArray
    """Left, top, right, bottom, from the forehead to the chin; shape ``(n, 4)``."""
    scores: FloatArray
    """The detector's own score, shape ``(n,)``; see :class:`.calibration.Calibration`."""
    landmarks: FloatArray
    """Eyes, nose tip, mouth corners, left to right as the image shows, unless the back end has a
    layout of its own; shape ``(n, 5, 2)``."""
    looks: FloatArray | None = None
    """What the pixels of each face say, shape ``(n, k)``; see :mod:`.face_looks`. ``None`` where
    that was not measured."""

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none() -> Faces:
        """Return no faces."""
        return Faces.from_bytes(b"")

    def only(self, index: int) -> Faces:
        """Return one of the faces alone."""
        part = slice(index, index + 1)
        looks = None if self.looks is None else self.looks[part]
        return Faces(self.boxes[part], self.scores[part], self.landmarks[part], looks)

    def with_looks(self, looks: FloatArray) -> Faces:
        """Return the faces with what their pixels say; faces beyond the last row have NaN."""
        rows = np.full((len(self), looks.shape[1]), np.nan, np.float32)
        rows[: len(looks)] = looks[: len(self)]
        return replace(self, looks=rows)

    def sides(self, index: int = 0) -> tuple[float, float]:
        """Return width and height of a face's box."""
        left, top, right, bottom = (float(value) for value in self.boxes[index])
        return right - left, bottom - top

    def to_bytes(self) -> bytes:
        """Pack for the feature store: rows of 15 little-endian float32."""
        rows = np.concatenate(
            [self.boxes, self.scores[:, None], self.landmarks.reshape(-1, 10)], axis=1
        )
        return np.asarray(rows, dtype="<f4").tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> Faces:
        """Unpack what :meth:`to_bytes` made."""
        rows = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(-1, _ROW)
        return Faces(rows[:, :4], rows[:, 4], rows[:, 5:].reshape(-1, 5, 2))

    @staticmethod
    def by_score(boxes: FloatArray, scores: FloatArray, landmarks: FloatArray) -> Faces:
        """Return faces in falling order of their scores."""
        order = np.argsort(-np.asarray(scores), kind="stable")
        return Faces(
            np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[order],
            np.asarray(scores, dtype=np.float32)[order],
            np.asarray(landmarks, dtype=np.float32).reshape(-1, 5, 2)[order],
        )

    def as_insightface(self) -> list[Any]:
        """Return insightface's ``Face`` objects; scores are Python floats."""
        from insightface.app.common import Face

        return [
            Face(bbox=box, kps=points, det_score=float(score))
            for box, points, score in zip(self.boxes, self.landmarks, self.scores, strict=True)
        ]
