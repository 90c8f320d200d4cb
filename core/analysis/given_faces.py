"""Faces that something else has found: where they are is given, and the pack looks closer.

The pack's detector looks around each given box for the five points that the recogniser needs.
Where it finds no face there, the face counts all the same; it is then compared upright, as its box
has it, and its pose is not told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..counts import how_many, worded
from ..errors import CuratorError
from ..imageset import ImageSet
from ..progress import Progress, silent
from .decoding import Pixels, decode_ahead
from .face_analyser import FaceAnalyser
from .faces import DETECTION, Faces, FloatArray
from .poses import HEADS

if TYPE_CHECKING:
    from ..features import FeatureStore

_AROUND = 0.5
"""Part of a box's sides by which the pack looks beyond it."""
_SAME = 0.3
"""Least overlap over union of a given box and the face that the pack finds there."""
_EYES_AT, _EYES_APART = 0.40, 0.37
"""Where eyes are in a box from forehead to chin, and how far apart, in parts of its height."""


class GivenFacesError(CuratorError):
    """Faces are given of another number of images."""

    def __init__(self, count: int, total: int) -> None:
        super().__init__(
            f"Faces are given of {how_many(count, 'image')}, and {total:,} "
            f"{worded(total, 'is', 'are')} to be looked at. Find them in the "
            "accepted images of the same set: Image Set to Images with 'which' accepted, and "
            "'count' large enough for all."
        )


@dataclass(frozen=True)
class GivenFace:
    """A face that something else has found.

    Attributes:
        box: Left, top, right, bottom as shares of the image's width and height.
        landmarks: Two eyes, nose tip, two mouth corners, left to right as the image shows, as
            shares too; None where only the box is known.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...] | None = None


class GivenFaces(FaceAnalyser):
    """A pack whose detector has been told of the faces; see :func:`with_given`.

    Args:
        pack: As of :class:`.FaceAnalyser`.
        det_size: As of :class:`.FaceAnalyser`.
        told: What tells these given faces from others.
    """

    def __init__(self, pack: str | Path, det_size: int | None = None, told: str = "") -> None:
        super().__init__(pack, det_size)
        self._told = told

    @cached_property
    def detection_fingerprint(self) -> str:  # type: ignore[override]
        """What detections depend on: the pack, and what it was told."""
        return f"given/1 {self._told} {super().detection_fingerprint}"

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out; upright, where its points are not known."""
        model = HEADS.get(self.backend.layout)
        if box is not None and model is not None and not np.isfinite(landmarks).all():
            left, top, right, bottom = (float(edge) for edge in box)
            height = bottom - top
            eyes = np.array([(left + right) / 2, top + _EYES_AT * height])
            points = eyes + np.array(model)[:, :2] * _EYES_APART * height
            landmarks = points.astype(np.float32)
        return super().crop(image, landmarks, box)


def with_given(
    images: ImageSet,
    store: FeatureStore,
    pack: str | Path,
    given: Sequence[Sequence[GivenFace]],
    det_size: int | None = None,
    progress: Progress = silent,
) -> GivenFaces:
    """Return a pack that finds in the accepted images the faces that are given.

    Their score is 1: who gives them has judged them.

    Args:
        images: The candidates.
        store: Where the faces are put.
        pack: Name or folder of the pack.
        given: The faces of each accepted image, in their order.
        det_size: As of :class:`.FaceAnalyser`.
        progress: Watches.

    Raises:
        GivenFacesError: Faces are given of another number of images.
        FacePackError: The pack is missing.
    """
    rows = np.flatnonzero(images.accepted_mask()).tolist()
    if len(given) != len(rows):
        raise GivenFacesError(len(given), len(rows))
    hashes = images.table["hash"].to_list()
    keyed = {hashes[row]: tuple(faces) for row, faces in zip(rows, given, strict=True)}
    keyed.pop(None, None)
    told = hashlib.sha256(repr(sorted(keyed.items())).encode()).hexdigest()
    analyser = GivenFaces(pack, det_size, told)
    fingerprint = analyser.detection_fingerprint
    known = store.get(list(keyed), DETECTION, fingerprint)
    missing = [row for row in rows if hashes[row] in keyed.keys() - known.keys()]
    if missing:
        paths = images.paths()
        progress.start("Looking at the given faces", len(missing))
        fresh: dict[str, bytes] = {}
        for decoded in decode_ahead([paths[row] for row in missing], lambda _: None):
            if decoded.image is not None:  # what can't be read, a later stage says
                key = hashes[missing[decoded.index]]
                fresh[key] = _faces(decoded.image, keyed[key], analyser).to_bytes()
            progress.advance()
        store.put(fresh, DETECTION, fingerprint)
        progress.finish()
    return analyser


def _faces(image: Pixels, given: Sequence[GivenFace], analyser: FaceAnalyser) -> Faces:
    """Return given faces in pixels, with the points that the pack finds in them."""
    height, width = image.shape[:2]
    boxes, points = [], []
    bare = any(face.landmarks is None for face in given)
    whole = FaceAnalyser.detect(analyser, image) if bare else Faces.none()
    for face in given:
        box = np.array(face.box, np.float32) * np.array([width, height] * 2, np.float32)
        if face.landmarks is not None:
            found = np.array(face.landmarks, np.float32) * np.array([width, height], np.float32)
        else:
            found = _landmarks(image, box, whole, analyser)
        boxes.append(box)
        points.append(found)
    return Faces.by_score(
        np.array(boxes, np.float32), np.ones(len(boxes), np.float32), np.array(points, np.float32)
    )


def _landmarks(image: Pixels, box: FloatArray, whole: Faces, analyser: FaceAnalyser) -> FloatArray:
    """Return the points of the face that the pack finds in a box; NaN where it finds none.

    Args:
        image: BGR, uint8.
        box: In its pixels.
        whole: What the pack finds in the whole image; it looks closer where that is not the face.
        analyser: The pack.
    """
    best = _same(whole, box)
    if best is not None:
        return np.asarray(whole.landmarks[best], np.float32)
    left, top, right, bottom = (float(edge) for edge in box)
    wide, high = (right - left) * _AROUND, (bottom - top) * _AROUND
    x0, y0 = max(0, int(left - wide)), max(0, int(top - high))
    part = image[y0 : int(bottom + high) + 1, x0 : int(right + wide) + 1]
    if min(part.shape[:2]) >= 16:
        found = FaceAnalyser.detect(analyser, np.ascontiguousarray(part))
        place = np.array([x0, y0], np.float32)
        moved = Faces(found.boxes + np.tile(place, 2), found.scores, found.landmarks + place)
        best = _same(moved, box)
        if best is not None:
            return np.asarray(moved.landmarks[best], np.float32)
    return np.full((5, 2), np.nan, np.float32)


def _same(faces: Faces, box: FloatArray) -> int | None:
    """Return which of some faces a box is of; None where it is none of them."""
    overlaps = [_overlap(one, box) for one in faces.boxes]
    best = int(np.argmax(overlaps)) if overlaps else None
    return None if best is None or overlaps[best] < _SAME else best


def _overlap(first: FloatArray, second: FloatArray) -> float:
    """Return the area that two boxes share over the area that they cover together."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-9)
