"""OpenCV's own faces: the detector YuNet and the recogniser SFace, as ONNX files in a folder.

Weights of both come from OpenCV's model zoo (YuNet under MIT, SFace under Apache-2.0), so that a
commercial project may use them; the code that runs them is part of OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .decoding import Pixels
from .face_packs import FacePackError
from .faces import Faces, FloatArray
from .fingerprints import file_fingerprint
from .poses import ARCFACE_LAYOUT

_DETECTOR, _RECOGNISER = "*yunet*.onnx", "*sface*.onnx"
_LEAST_SCORE = 0.5
_OVERLAP, _MOST_BOXES = 0.3, 5000  # OpenCV's own defaults
_INPUT = 112  # edge of the recogniser's image


def yunet_of(folder: Path) -> Path | None:
    """Return the detector in a folder, the newest by its name; ``None`` where there is none.

    Quantised files (``int8``) are taken only where there is no other.
    """
    return _newest(folder, _DETECTOR)


def _newest(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern), key=lambda path: ("int8" not in path.name, path.name))
    return found[-1] if found else None


class OpenCVFaces:
    """YuNet and SFace; see :class:`.face_backends.FaceBackend`.

    Args:
        folder: Holds a file ``*yunet*.onnx`` and, to tell people apart, one ``*sface*.onnx``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _detector_path(self) -> Path:
        found = yunet_of(self.folder)
        if found is None:
            raise FacePackError(
                f"There is no *yunet*.onnx in {self.folder}. Put face_detection_yunet_2023mar.onnx "
                "of OpenCV's model zoo there."
            )
        return found

    @cached_property
    def _recogniser_path(self) -> Path:
        found = _newest(self.folder, _RECOGNISER)
        if found is None:
            raise FacePackError(
                f"The face pack in {self.folder} has no recogniser, so that no identity can be "
                "told. Put face_recognition_sface_2021dec.onnx of OpenCV's model zoo there."
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """What the models are: the bytes of the files in use, and how they are used."""
        used = [self._detector_path] + ([self._recogniser_path] if self.has_recogniser else [])
        return "opencv/1 " + " ".join(file_fingerprint(path) for path in used)

    @property
    def threshold(self) -> float:
        """Least score that counts as a face."""
        return _LEAST_SCORE

    @property
    def layout(self) -> str:
        """Which five points its landmarks are."""
        return ARCFACE_LAYOUT

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified."""
        return _newest(self.folder, _RECOGNISER) is not None

    @cached_property
    def _detector(self) -> Any:
        import cv2

        try:
            return cv2.FaceDetectorYN.create(
                str(self._detector_path), "", (320, 320), self.threshold, _OVERLAP, _MOST_BOXES
            )
        except cv2.error as error:
            raise self._damaged(self._detector_path, error) from error

    @cached_property
    def _recogniser(self) -> Any:
        import cv2

        try:
            return cv2.FaceRecognizerSF.create(str(self._recogniser_path), "")
        except cv2.error as error:
            raise self._damaged(self._recogniser_path, error) from error

    @staticmethod
    def _damaged(path: Path, error: Exception) -> FacePackError:
        what = str(getattr(error, "err", "") or error).strip()
        return FacePackError(f"OpenCV cannot use {path}: {what}. Get the file again.")

    def detect(self, image: Pixels, edge: int) -> Faces:
        """Find faces in an image that is scaled down to a longest edge of ``edge`` pixels.

        Raises:
            FacePackError: The detector is not there, or OpenCV cannot run it.
        """
        import cv2

        scale = min(1.0, edge / max(image.shape[:2]))
        small = image
        if scale < 1:
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = small.shape[:2]
        try:
            self._detector.setInputSize((width, height))
            _, found = self._detector.detect(small)
        except cv2.error as error:
            raise self._damaged(self._detector_path, error) from error
        if found is None:
            return Faces.none()
        # Rows of left, top, width, height, five points from the left of the image, score.
        rows = np.asarray(found, dtype=np.float32)
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return Faces.by_score(corners / scale, rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2) / scale)

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it."""
        row = np.zeros((1, 15), dtype=np.float32)
        row[0, 4:14] = np.asarray(landmarks, dtype=np.float32).reshape(-1)
        return np.asarray(self._recogniser.alignCrop(image, row), dtype=np.uint8)

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed crops.

        Returns:
            Shape ``(n, d)``, of any length; d is 128 for SFace.
        """
        rows = [np.asarray(self._recogniser.feature(crop)).reshape(-1) for crop in crops]
        return np.asarray(rows, dtype=np.float32)
