"""dlib's faces: detector, five landmarks and recogniser, all of them in the public domain.

The weights come with the package ``face-recognition-models`` from the package index; nothing is
downloaded. Its 68-point landmarks are for research only and are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .decoding import Pixels
from .face_packs import FacePackError
from .faces import Faces, FloatArray
from .fingerprints import file_fingerprint
from .poses import DLIB_LAYOUT

HOG, CNN = "dlib", "dlib-cnn"
"""Names of the packs: the detector of gradients, and the convolutional one (slower, better)."""
_DETECTOR = "mmod_human_face_detector.dat"
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
_RECOGNISER = "dlib_face_recognition_resnet_model_v1.dat"
_CHIP, _PADDING = 150, 0.25
"""What the recogniser was trained on: chips of 150 pixels with a quarter of the face around."""
_BOX = {HOG: (0.94, 1.30, -0.10), CNN: (0.96, 1.38, -0.02)}
"""Width, height and shift of a box from forehead to chin, in dlib's own box, which ends at the
brows: medians over photographs in which SCRFD found the same face."""
_UPSAMPLED_TO = 1300
"""Longest edge to which images are doubled, so that faces of 40 pixels are found."""


def models_folder() -> Path:
    """Return where the weights lie.

    Raises:
        FacePackError: The package is not installed.
    """
    # The package itself cannot be imported beside a new setuptools: it asks for pkg_resources.
    found = find_spec("face_recognition_models")
    places = [Path(p) / "models" for p in (found.submodule_search_locations or ())] if found else []
    folder = next((p for p in places if (p / _LANDMARKS).is_file()), None)
    if folder is None or find_spec("dlib") is None:
        raise FacePackError(
            "dlib's faces need the packages dlib-bin and face-recognition-models. Install them "
            "with: python -m pip install dlib-bin face-recognition-models"
        )
    return folder


class DlibFaces:
    """dlib's detector, landmarks and recogniser; see :class:`.face_backends.FaceBackend`.

    Landmarks are in dlib's own layout: the outer and the inner corner of the eye on the right of
    the image, of the eye on the left, and the place below the nose.

    Args:
        pack: ``dlib`` or ``dlib-cnn``.
    """

    def __init__(self, pack: str = HOG) -> None:
        self.pack = pack

    @cached_property
    def folder(self) -> Path:
        """The folder of the weights."""
        return models_folder()

    @cached_property
    def fingerprint(self) -> str:
        """What the models are: the bytes of their files, and how they are used."""
        used = (_LANDMARKS, _RECOGNISER) + ((_DETECTOR,) if self.pack == CNN else ())
        files = " ".join(file_fingerprint(self.folder / name) for name in used)
        return f"{self.pack}/1 {files}"

    @property
    def threshold(self) -> float:
        """Least score that counts as a face: dlib's own."""
        return 0.0

    @property
    def layout(self) -> str:
        """Which five points its landmarks are."""
        return DLIB_LAYOUT

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified: always."""
        return True

    @cached_property
    def _detector(self) -> Any:
        folder = self.folder  # says what to install
        import dlib

        if self.pack == CNN:
            return dlib.cnn_face_detection_model_v1(str(folder / _DETECTOR))
        return dlib.get_frontal_face_detector()

    @cached_property
    def _landmarks(self) -> Any:
        import dlib

        return dlib.shape_predictor(str(self.folder / _LANDMARKS))

    @cached_property
    def _recogniser(self) -> Any:
        import dlib

        return dlib.face_recognition_model_v1(str(self.folder / _RECOGNISER))

    def detect(self, image: Pixels, edge: int) -> Faces:
        """Find faces in an image that is scaled down to a longest edge of ``edge`` pixels."""
        import cv2

        scale = min(1.0, edge / max(image.shape[:2]))
        small = image
        if scale < 1:
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rgb = np.ascontiguousarray(small[..., ::-1])
        rectangles, scores = self._rectangles(rgb, int(2 * max(small.shape[:2]) <= _UPSAMPLED_TO))
        if not rectangles:
            return Faces.none()
        shapes = [self._landmarks(rgb, rectangle) for rectangle in rectangles]
        points = [[(p.x, p.y) for p in shape.parts()] for shape in shapes]
        boxes = [self._whole_face(rectangle) for rectangle in rectangles]
        return Faces.by_score(
            np.array(boxes, np.float32) / scale,
            np.array(scores, np.float32),
            np.array(points, np.float32) / scale,
        )

    def _rectangles(self, rgb: Pixels, doubled: int) -> tuple[list[Any], list[float]]:
        if min(rgb.shape[:2]) < 8:
            return [], []
        if self.pack == CNN:
            found = self._detector(rgb, doubled)
            return [f.rect for f in found], [float(f.confidence) for f in found]
        rectangles, scores, _ = self._detector.run(rgb, doubled, self.threshold)
        return list(rectangles), [float(score) for score in scores]

    def _whole_face(self, box: Any) -> tuple[float, float, float, float]:
        wide, high, shift = _BOX[self.pack]
        width, height = float(box.width()), float(box.height())
        x, y = box.left() + width / 2, box.top() + height * (0.5 + shift)
        return (
            x - wide * width / 2, y - high * height / 2, x + wide * width / 2,
            y + high * height / 2,
        )  # fmt: skip

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it."""
        import dlib

        points = np.asarray(landmarks, dtype=np.float64)
        low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
        box = dlib.rectangle(int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        parts = dlib.points([dlib.point(round(x), round(y)) for x, y in points.tolist()])
        shape = dlib.full_object_detection(box, parts)
        rgb = np.ascontiguousarray(image[..., ::-1])
        chip = dlib.get_face_chip(rgb, shape, size=_CHIP, padding=_PADDING)
        return np.ascontiguousarray(chip[..., ::-1])

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed faces that :meth:`crop` cut out; shape ``(n, 128)``."""
        chips = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops]
        return np.array([self._recogniser.compute_face_descriptor(chip) for chip in chips])
