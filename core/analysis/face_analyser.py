"""The face models: where faces are and how certain, and vectors that tell whose they are."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import FACE_PACK
from .builds import build_faults
from .decoding import Pixels
from .face_packs import FacePackError, find_pack
from .fingerprints import folder_fingerprint

log = logging.getLogger(__name__)

DETECTION = "faces"
IDENTITY = "identity"
DETECTOR_THRESHOLD = 0.5
"""Least score that counts as a face at all: insightface's own default."""
DETECTION_SIZES = (128, 192, 256, 320, 480, 640)
"""Edges of the square that an image is fitted into; see :class:`FaceAnalyser`."""

FloatArray = NDArray[np.float32]
_ROW = 15  # box, score, five landmarks
_TO_COMPLEX = np.array([1.0, 1.0j])
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
"""Where ArcFace wants eyes, nose tip and mouth corners in an image of 112 pixels."""


@dataclass(frozen=True)
class Faces:
    """The faces of one image, the most certain first. Coordinates are pixels."""

    boxes: FloatArray
    """Left, top, right, bottom; shape ``(n, 4)``."""
    scores: FloatArray
    """The detector's confidence in [0, 1], shape ``(n,)``."""
    landmarks: FloatArray
    """Eyes, nose tip, mouth corners, left to right as the image shows; shape ``(n, 5, 2)``."""

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none() -> Faces:
        """Return no faces."""
        return Faces.from_bytes(b"")

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

    def as_insightface(self) -> list[Any]:
        """Return insightface's ``Face`` objects; scores are Python floats."""
        from insightface.app.common import Face

        return [
            Face(bbox=box, kps=points, det_score=float(score))
            for box, points, score in zip(self.boxes, self.landmarks, self.scores, strict=True)
        ]


def aligned(image: Pixels, landmarks: FloatArray, size: int = 112) -> Pixels:
    """Cut a face out as insightface's ``norm_crop`` does.

    Rotation, scale and shift are the least-squares fit of the landmarks to ArcFace's template
    (Umeyama, 1991); over complex numbers that is one division.

    Args:
        image: BGR, uint8.
        landmarks: Shape ``(5, 2)`` in pixels.
        size: Edge of the result, a multiple of 112 or of 128.

    Returns:
        Shape ``(size, size, 3)``; black where the image ends.
    """
    import cv2

    template = _TEMPLATE * (size / 112) if size % 112 == 0 else _TEMPLATE * (size / 128)
    if size % 112:
        template = template + np.array([8.0 * size / 128, 0.0])
    points = np.asarray(landmarks, dtype=np.float64)
    source, target = points @ _TO_COMPLEX, template @ _TO_COMPLEX
    spread = source - source.mean()
    turn = np.vdot(spread, target - target.mean()) / max(np.vdot(spread, spread).real, 1e-12)
    shift = target.mean() - turn * source.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), borderValue=0.0), dtype=np.uint8)


class FaceAnalyser:
    """Detects and identifies faces with an insightface pack.

    Of the pack only the detector and the recogniser are used. Models load when they are first
    needed; the fingerprints need none.

    Args:
        pack: ``miniature``, the name of an insightface pack (``buffalo_l``), or a folder.
        det_size: Edge in pixels of the square that each image is scaled into for detection, a
            multiple of 32. ``None`` takes the smallest of :data:`DETECTION_SIZES` that holds the
            image, and 640 for larger ones: a small image is never blown up, and what is found
            in an image never depends on the others. A detector of fixed size has its own.
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
        self.batch_size = batch_size
        self._providers = providers

    @cached_property
    def folder(self) -> Path:
        """The folder of the pack's ONNX files."""
        return find_pack(self.pack)

    @cached_property
    def _content(self) -> str:
        return folder_fingerprint(self.folder, "*.onnx")

    @property
    def detection_fingerprint(self) -> str:
        """What detections depend on: the pack's bytes and how images are fitted."""
        size = self.det_size or f"fit {DETECTION_SIZES}"
        return f"{self._content} size={size} threshold={DETECTOR_THRESHOLD}"

    @property
    def identity_fingerprint(self) -> str:
        """What identity vectors depend on: the detection and the recogniser."""
        return f"{self.detection_fingerprint} float16/1"

    @cached_property
    def _analysis(self) -> Any:
        import onnxruntime
        from insightface.app import FaceAnalysis

        for fault in build_faults():
            log.warning("%s", fault)
        available = onnxruntime.get_available_providers()
        known = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = list(self._providers or [p for p in known if p in available])
        silence = io.StringIO()  # older versions print what they load
        try:
            with contextlib.redirect_stdout(silence):
                analysis = FaceAnalysis(
                    name=str(self.folder),
                    allowed_modules=["detection", "recognition"],
                    providers=providers,
                )
                on_gpu = providers[0] != "CPUExecutionProvider"
                size = self.det_size or DETECTION_SIZES[-1]
                analysis.prepare(
                    ctx_id=0 if on_gpu else -1,
                    det_thresh=DETECTOR_THRESHOLD,
                    det_size=(size, size),
                )
        except AssertionError as error:
            raise FacePackError(
                f"The face pack in {self.folder} has no detector that insightface recognises "
                "(an ONNX model of the SCRFD family). Use another pack."
            ) from error
        except Exception as error:  # onnxruntime raises many kinds for a damaged file
            raise FacePackError(
                f"The face pack in {self.folder} cannot be loaded: {error}. Unpack it again."
            ) from error
        return analysis

    def detect(self, image: Pixels) -> Faces:
        """Find all faces of a decoded image (BGR, uint8, any size)."""
        detector = self._analysis.det_model
        height, width = image.shape[:2]
        edge = self._edge(max(height, width))
        if min(height, width) * edge < max(height, width):
            return Faces.none()  # so narrow that nothing of its width would be left
        size = getattr(detector, "static_input_size", None) or (edge, edge)
        found, landmarks = detector.detect(image, input_size=tuple(size))
        if landmarks is None:  # a detector without landmarks
            landmarks = np.full((len(found), 5, 2), np.nan)
        order = np.argsort(-found[:, 4], kind="stable")
        return Faces(
            found[order, :4].astype(np.float32),
            found[order, 4].astype(np.float32),
            np.asarray(landmarks, dtype=np.float32).reshape(-1, 5, 2)[order],
        )

    def _edge(self, longest: int) -> int:
        if self.det_size:
            return self.det_size
        return next((s for s in DETECTION_SIZES if s >= longest), DETECTION_SIZES[-1])

    def crop(self, image: Pixels, landmarks: FloatArray) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it."""
        return aligned(image, landmarks, self._recogniser.input_size[0])

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed faces that :meth:`crop` cut out.

        Returns:
            L2-normalised vectors, shape ``(n, d)``; the cosine of two says how alike they are.

        Raises:
            FacePackError: The pack has no recogniser.
        """
        recogniser = self._recogniser
        try:
            vectors = recogniser.get_feat(list(crops))
        except Exception:
            if len(crops) == 1:
                raise
            # Some exported recognisers take one face at a time.
            vectors = np.concatenate([recogniser.get_feat([crop]) for crop in crops])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified."""
        return "recognition" in self._analysis.models

    @property
    def _recogniser(self) -> Any:
        if not self.has_recogniser:
            raise FacePackError(
                f"The face pack in {self.folder} has no recogniser (an ArcFace model of 112 x 112 "
                "pixels), so faces cannot be identified. Add one to the folder."
            )
        return self._analysis.models["recognition"]
