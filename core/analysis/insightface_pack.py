"""insightface packs: a detector of the SCRFD family and an ArcFace recogniser, as ONNX files."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engines.cores import own_processors
from .builds import build_faults
from .decoding import Pixels
from .face_packs import FacePackError, find_pack
from .faces import Faces, FloatArray
from .fingerprints import folder_fingerprint
from .poses import ARCFACE_LAYOUT

log = logging.getLogger(__name__)

DETECTOR_THRESHOLD = 0.5
"""Least score that counts as a face at all: insightface's own default."""

_TO_COMPLEX = np.array([1.0, 1.0j])
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
"""Where ArcFace wants eyes, nose tip and mouth corners in an image of 112 pixels."""


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


def _sleeping_session(model: Any, providers: Sequence[str]) -> Any:
    """Return a model's session again, sized to this process, with threads that sleep.

    onnxruntime's spin by default, which takes the processors from whatever else runs; not every
    version of insightface lets its sessions be told.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = own_processors()  # its own choice is all that the machine has
    return onnxruntime.InferenceSession(model.model_file, options, providers=list(providers))


class InsightfacePack:
    """An insightface pack; see :class:`.face_backends.FaceBackend`.

    Of the pack only the detector and the recogniser are used.

    Args:
        pack: ``miniature``, the name of an insightface pack (``buffalo_l``), or a folder.
        providers: onnxruntime execution providers, the preferred first; CUDA where it is
            available, else the CPU, unless given.
    """

    def __init__(self, pack: str | Path, providers: Sequence[str] | None = None) -> None:
        self.pack = pack
        self._providers = providers

    @cached_property
    def folder(self) -> Path:
        """The folder of the pack's ONNX files."""
        return find_pack(self.pack)

    @cached_property
    def fingerprint(self) -> str:
        """What the models are: the bytes of the ONNX files."""
        return folder_fingerprint(self.folder, "*.onnx")

    @property
    def threshold(self) -> float:
        """Least score that counts as a face."""
        return DETECTOR_THRESHOLD

    @cached_property
    def analysis(self) -> Any:
        """The object of insightface itself, loaded."""
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
                analysis.prepare(
                    ctx_id=0 if on_gpu else -1,
                    det_thresh=DETECTOR_THRESHOLD,
                    det_size=(640, 640),
                )
                for model in analysis.models.values():
                    model.session = _sleeping_session(model, providers)
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

    def detect(self, image: Pixels, edge: int) -> Faces:
        """Find faces in an image that is fitted into a square of ``edge`` pixels."""
        detector = self.analysis.det_model
        size = getattr(detector, "static_input_size", None) or (edge, edge)
        found, landmarks = detector.detect(image, input_size=tuple(size))
        if landmarks is None:  # a detector without landmarks
            landmarks = np.full((len(found), 5, 2), np.nan)
        return Faces.by_score(found[:, :4], found[:, 4], landmarks)

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it."""
        return aligned(image, landmarks, self._recogniser.input_size[0])

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed faces that :meth:`crop` cut out; rows of any length, shape ``(n, d)``."""
        recogniser = self._recogniser
        try:
            vectors = recogniser.get_feat(list(crops))
        except Exception:
            if len(crops) == 1:
                raise
            # Some exported recognisers take one face at a time.
            vectors = np.concatenate([recogniser.get_feat([crop]) for crop in crops])
        return np.asarray(vectors)

    @property
    def layout(self) -> str:
        """Which five points its landmarks are."""
        return ARCFACE_LAYOUT

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified."""
        return "recognition" in self.analysis.models

    @property
    def _recogniser(self) -> Any:
        if not self.has_recogniser:
            raise FacePackError(
                f"The face pack in {self.folder} has no recogniser (an ArcFace model of 112 x 112 "
                "pixels), so faces cannot be identified. Add one to the folder."
            )
        return self.analysis.models["recognition"]
