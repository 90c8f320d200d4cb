"""The face models: where faces are and how certain, and vectors that tell whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..defaults import FACE_PACK, MINIMUM_CONFIDENCE, MINIMUM_FACE_SHARE
from .calibration import Calibration
from .decoding import Pixels
from .face_backends import FaceBackend, calibration_of, open_backend
from .face_packs import FacePackError
from .faces import Faces, FloatArray

DETECTION_SIZES = (128, 192, 256, 320, 480, 640)
"""Edges of the square that an image is fitted into; see :class:`FaceAnalyser`."""
SECOND_LOOKS = ((320, 0.0), (160, 0.0), (640, 0.25), (1280, 0.0))
"""Edge, and margin as a share of the longest side, of the detections that follow where the first
found nothing certain: faces that fill the frame are found in a smaller image or with a margin,
small ones in a larger. Together they take about five times as long as the first."""

_MOST_WITH_MARGIN, _BEFORE_MARGIN = 300_000_000, 4
"""So many pixels an image with its margin may have, which around a long strip is mostly margin; a
larger one is first scaled down to so many times the detector's edge."""

FURTHER_FACES_FROM = 0.7
"""Least calibrated confidence of a face beside another: what is less certain is usually a pattern
in the background, or somebody far out of focus, and does not make an image one of several people.
The most certain face counts however uncertain it is."""


class FaceAnalyser:
    """Detects and identifies faces with the models of a pack.

    Models load when they are first needed; the fingerprints need none.

    Args:
        pack: ``miniature``, ``dlib``, ``dlib-cnn``, the name of an insightface pack
            (``buffalo_l``), or a folder; see :func:`.face_backends.open_backend`.
        det_size: Edge in pixels of the square that each image is scaled into for detection, a
            multiple of 32. ``None`` takes the smallest of :data:`DETECTION_SIZES` that holds the
            image, and 640 for larger ones: a small image is never blown up, and what is found
            in an image never depends on the others. With a pack for photographs further sizes
            are then tried where no certain face of some size was found. A detector of fixed size
            has its own.
        providers: onnxruntime execution providers, the preferred first; CUDA where it is
            available, else the CPU, unless given.
        batch_size: Aligned faces that are identified together.

    Raises:
        FacePackError: The pack is missing or broken; raised when it is first needed.
    """

    def __init__(
        self,
        pack: str | Path = FACE_PACK,
        det_size: int | None = None,
        providers: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> None:
        if det_size is not None and (det_size < 32 or det_size % 32):
            raise FacePackError(
                f"The detection size {det_size} is not a positive multiple of 32. Use 640, or "
                "leave it out."
            )
        self.pack = pack
        self.det_size = det_size
        self._providers = None if providers is None else tuple(providers)
        self.batch_size = batch_size
        self.backend: FaceBackend = open_backend(pack, providers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a description; a process loads the models of equal ones once."""
        if type(self) is not FaceAnalyser:
            return super().__reduce__()  # type: ignore[return-value]
        return _described, (self.pack, self.det_size, self._providers, self.batch_size)

    @property
    def folder(self) -> Path:
        """The folder of the pack's files."""
        return self.backend.folder

    @cached_property
    def calibration(self) -> Calibration:
        """How the pack's scores and similarities are read."""
        return calibration_of(self.pack, self.backend)

    @property
    def looks_again(self) -> bool:
        """Whether several detection sizes are tried."""
        return self.det_size is None and self.calibration.photographs

    @property
    def detection_fingerprint(self) -> str:
        """What detections depend on: the pack's bytes and how images are fitted."""
        size = self.det_size or f"fit {DETECTION_SIZES}"
        again = ""
        if self.looks_again:
            again = f" then {SECOND_LOOKS} curve={self.calibration.curve} >= {FURTHER_FACES_FROM}"
        return f"{self.backend.fingerprint} size={size} threshold={self.backend.threshold}{again}"

    @property
    def identity_fingerprint(self) -> str:
        """What identity vectors depend on: the detection and the recogniser."""
        return f"{self.detection_fingerprint} float16/1"

    def detect(self, image: Pixels) -> Faces:
        """Find all faces of a decoded image (BGR, uint8, any size)."""
        longest = max(image.shape[:2])
        edge = self._edge(longest)
        found = self._found_at(image, edge)
        if not self.looks_again:
            return found
        found = self._certain(found)
        if self._settles(found, image):
            return found
        for size, margin in SECOND_LOOKS:
            # No image is blown up, and none is looked at twice in the same way.
            if not margin and (size == edge or size >= 2 * longest):
                continue
            again = self._certain(self._with_margin(image, size, margin))
            if len(again) and (not len(found) or again.scores[0] > found.scores[0]):
                found = again
            if self._settles(found, image):
                break
        return found

    def _certain(self, found: Faces) -> Faces:
        """Return the first face, and of the further ones those that are certain to be faces."""
        counted = self.calibration.confidence(found.scores) >= FURTHER_FACES_FROM
        counted[:1] = True
        return Faces(found.boxes[counted], found.scores[counted], found.landmarks[counted])

    def _settles(self, found: Faces, image: Pixels) -> bool:
        """Whether looking again would tell nothing: several faces, or a certain, large one."""
        if len(found) != 1:
            return len(found) > 1
        left, top, right, bottom = (float(value) for value in found.boxes[0])
        share = (right - left) * (bottom - top) / (image.shape[0] * image.shape[1])
        certain = float(self.calibration.confidence(found.scores[:1])[0]) >= MINIMUM_CONFIDENCE
        return certain and share >= MINIMUM_FACE_SHARE

    def _with_margin(self, image: Pixels, edge: int, margin: float) -> Faces:
        if not margin:
            return self._found_at(image, edge)
        import cv2

        (height, across), longest = image.shape[:2], max(image.shape[:2])
        width = round(longest * margin)
        if (height + 2 * width) * (across + 2 * width) > _MOST_WITH_MARGIN:
            scale = _BEFORE_MARGIN * edge / longest
            size = (max(1, round(across * scale)), max(1, round(height * scale)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            found = self._with_margin(np.asarray(small, dtype=np.uint8), edge, margin)
            return Faces(found.boxes / scale, found.scores, found.landmarks / scale)
        wider = cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_REPLICATE)
        found = self._found_at(np.asarray(wider, dtype=np.uint8), edge)
        return Faces(found.boxes - width, found.scores, found.landmarks - width)

    def _found_at(self, image: Pixels, edge: int) -> Faces:
        """Return what the pack finds; none where nothing of the image's width would be left."""
        if min(image.shape[:2]) * edge < max(image.shape[:2]):
            return Faces.none()
        return self.backend.detect(image, edge)

    def _edge(self, longest: int) -> int:
        if self.det_size:
            return self.det_size
        return next((s for s in DETECTION_SIZES if s >= longest), DETECTION_SIZES[-1])

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it.

        Args:
            image: BGR, uint8.
            landmarks: The face's five points.
            box: The face's box, which a pack without landmarks goes by.
        """
        return self.backend.crop(image, landmarks, box)

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed faces that :meth:`crop` cut out.

        Returns:
            L2-normalised vectors, shape ``(n, d)``; the cosine of two says how alike they are.

        Raises:
            FacePackError: The pack has no recogniser.
        """
        vectors = self.backend.identify(crops)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified."""
        return self.backend.has_recogniser


@lru_cache(maxsize=2)
def _described(
    pack: str | Path, det_size: int | None, providers: tuple[str, ...] | None, batch_size: int
) -> FaceAnalyser:
    return FaceAnalyser(pack, det_size, providers, batch_size=batch_size)
