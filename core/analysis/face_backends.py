"""Face back ends: what finds and identifies faces, by the name of a pack.

A back end is anything with the attributes of :class:`FaceBackend`; :class:`.FaceAnalyser` is what
the stages use, and asks :func:`open_backend` for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..miniature import FACE_PACK_PATH
from .anime_faces import (
    ANIME,
    DETECTOR_REPO,
    HEADS_REPO,
    RECOGNISER_REPO,
    AnimeFaces,
    detector_of,
)
from .calibration import Calibration
from .decoding import Pixels
from .face_packs import LICENCE, MINIATURE, PACK_ROOT, FacePackError, packs_folder
from .faces import Faces, FloatArray
from .fingerprints import folder_fingerprint

RAW = Calibration(photographs=False, source="drawn portraits; the scores are taken as they are")
"""Of the embedded pack, for which the thresholds of the recipe were chosen."""

SCRFD = Calibration(
    ((0.5, 0.5), (0.62, 0.85), (0.78, 0.90), (0.83, 0.95), (0.89, 1.0)),
    0.3,
    source="SCRFD 2.5G and 500M on 784 photographs of one face; identity of a MobileFaceNet on "
    "five people: 87 % of their own images and 0.2 % of others' pass one reference",
)
"""Of insightface packs that bring no calibration of their own."""
DLIB = Calibration(
    ((0.0, 0.5), (0.82, 0.85), (1.31, 0.90), (1.94, 0.95), (2.79, 1.0)),
    0.92,
    source="235 photographs of one face; identity on 142 images of ten people: 96 % of their own "
    "and none of 9,003 pairs of two people pass one reference",
)
DLIB_CNN = Calibration(
    ((0.0, 0.5), (1.03, 0.85), (1.055, 0.90), (1.068, 0.95), (1.098, 1.0)),
    0.92,
    source="119 photographs of one face; identity as of dlib",
)
YUNET = Calibration(
    ((0.5, 0.5), (0.88, 0.85), (0.926, 0.90), (0.939, 0.95), (0.953, 1.0)),
    0.363,
    source="YuNet (March 2023) on 231 photographs of one face; identity as OpenCV states it for "
    "SFace on Labeled Faces in the Wild",
)
"""Of OpenCV's detector and recogniser."""


class FaceBackend(Protocol):
    """What finds and identifies faces. Models load when they are first needed."""

    @property
    def folder(self) -> Path:
        """Where the weights lie; raises :class:`FacePackError` where they are not."""

    @property
    def fingerprint(self) -> str:
        """What detections and identities depend on, beside the detection size."""

    @property
    def threshold(self) -> float:
        """Least score that counts as a face."""

    @property
    def layout(self) -> str:
        """Which five points its landmarks are; see :data:`.poses.HEADS`."""

    @property
    def has_recogniser(self) -> bool:
        """Whether faces can be identified."""

    def detect(self, image: Pixels, edge: int) -> Faces:
        """Find faces in an image (BGR) that is fitted into a square of ``edge`` pixels."""

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut a face out, turned and scaled as the recogniser wants it; by its box without any."""

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed crops; rows of any length, shape ``(n, d)``."""


@dataclass(frozen=True)
class BackendInfo:
    """What can be said of a back end before anything is loaded.

    Attributes:
        pack: The name to give as pack.
        models: What it consists of.
        licence: Of the weights.
        size: Of the weights, for people.
        source: Where the weights come from.
    """

    pack: str
    models: str
    licence: str
    size: str
    source: str


BACKENDS = (
    BackendInfo(
        MINIATURE, "SCRFD-like detector and recogniser for drawn portraits", "Apache-2.0",
        "3 MB", "part of this package",
    ),
    BackendInfo(
        "buffalo_l", "SCRFD 10G and ArcFace R50 (any insightface pack by its name)", LICENCE,
        "280 MB", f"insightface, at first use, into {PACK_ROOT}/models",
    ),
    BackendInfo(
        "dlib", "HOG detector, 5 landmarks, ResNet recogniser", "public domain; commercial use too",
        "31 MB", "python -m pip install dlib-bin face-recognition-models",
    ),
    BackendInfo(
        "dlib-cnn", "convolutional detector (slow on a CPU), otherwise as dlib",
        "public domain; commercial use too", "31 MB",
        "python -m pip install dlib-bin face-recognition-models",
    ),
    BackendInfo(
        "auraface", "SCRFD 10G and AuraFace (trained on images for commercial use)",
        "Apache-2.0; commercial use too", "350 MB",
        f"fal/AuraFace-v1 of the Hugging Face hub, into {PACK_ROOT}/models/auraface",
    ),
    BackendInfo(
        "anime", "YOLOv8 detectors of drawn faces and (if wanted) heads, CCIP tells characters "
        "apart; no landmarks",
        "MIT (detectors), OpenRAIL (CCIP)", "195 MB",
        f"{DETECTOR_REPO}, {HEADS_REPO} and {RECOGNISER_REPO} of the Hugging Face hub, into "
        f"{PACK_ROOT}/models/anime",
    ),
    BackendInfo(
        "FOLDER", "OpenCV's YuNet and SFace (files named *yunet*.onnx, *sface*.onnx)",
        "MIT and Apache-2.0; commercial use too", "37 MB", "OpenCV's model zoo",
    ),
    BackendInfo(
        "FOLDER", "any SCRFD or RetinaFace detector and ArcFace recogniser as ONNX files",
        "as their authors say", "", "your own",
    ),
)  # fmt: skip


def installed(pack: str) -> bool | None:
    """Return whether a pack's weights are here; ``None`` for a folder, which is one's own."""
    from .dlib_faces import CNN, HOG, models_folder

    if pack == MINIATURE:
        return True
    if pack in (HOG, CNN):
        try:
            return models_folder().is_dir()
        except FacePackError:
            return False
    if pack.isupper():
        return None
    if pack == ANIME:
        return detector_of(packs_folder() / pack) is not None
    return (packs_folder() / pack).is_dir()


def open_backend(pack: str | Path, providers: Sequence[str] | None = None) -> FaceBackend:
    """Return the back end of a pack; nothing is loaded yet.

    Args:
        pack: ``miniature``, ``dlib``, ``dlib-cnn``, ``anime``, the name of an insightface pack
            (``buffalo_l``), or a folder of ONNX files; with a file ``*yunet*.onnx`` it is
            OpenCV's, with ``face_detect_v*/model.onnx`` it is of anime characters.
        providers: onnxruntime's execution providers, for an insightface pack.
    """
    from .dlib_faces import CNN, HOG, DlibFaces
    from .insightface_pack import InsightfacePack
    from .opencv_faces import OpenCVFaces, yunet_of

    if pack in (HOG, CNN):
        return DlibFaces(str(pack))
    for folder in (Path(pack).expanduser(), packs_folder() / str(pack)):
        if folder.is_dir() and detector_of(folder):
            return AnimeFaces(folder)
        if folder.is_dir() and pack != ANIME:
            return OpenCVFaces(folder) if yunet_of(folder) else InsightfacePack(pack, providers)
    return AnimeFaces(packs_folder() / ANIME) if pack == ANIME else InsightfacePack(pack, providers)


def calibration_of(pack: str | Path, backend: FaceBackend) -> Calibration:
    """Return how a pack's scores are read.

    That is what lies in its folder as ``calibration.json``; what is known here of dlib's models,
    of OpenCV's, and of the embedded pack, which is recognised wherever it lies; else what was
    measured with detectors of the SCRFD family.

    Raises:
        FacePackError: The pack is not there.
        CalibrationError: Its calibration is damaged.
    """
    from .opencv_faces import yunet_of

    known = {"dlib": DLIB, "dlib-cnn": DLIB_CNN, MINIATURE: RAW}.get(str(pack))
    if known is not None:
        return known
    found = Calibration.read(backend.folder)
    if found is not None:
        return found
    if isinstance(backend, AnimeFaces):
        return backend.calibration
    if yunet_of(backend.folder):
        return YUNET
    embedded = folder_fingerprint(FACE_PACK_PATH, "*.onnx")
    return RAW if backend.fingerprint == embedded else SCRFD
