"""Faces of anime characters: DeepGHS' detector and CCIP, which tells characters apart.

Both are read from files of the Hugging Face hub and run by onnxruntime. The library that their
authors offer for them, dghs-imgutils, wants an older numpy than ComfyUI ships and another build of
OpenCV, so that it is not needed here; what is done with the files is what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engines.cores import own_processors
from ..json_text import parse
from ..plain_files import plain_text
from .calibration import Calibration
from .crop_boxes import face_within
from .decoding import Pixels
from .face_packs import FacePackError
from .faces import Faces, FloatArray
from .fingerprints import file_fingerprint

ANIME = "anime"
NO_LANDMARKS = "none"
"""The layout of a detector that gives boxes alone."""
DETECTOR_REPO, RECOGNISER_REPO = "deepghs/anime_face_detection", "deepghs/ccip_onnx"
DETECTOR, RECOGNISER = "face_detect_v1.4_s", "ccip-caformer-24-randaug-pruned"
HEADS_REPO, HEADS = "deepghs/anime_head_detection", "head_detect_v2.0_s"

CURVE = ((0.25, 0.5), (0.45, 0.85), (0.60, 0.90), (0.72, 0.95), (0.85, 1.0))
"""Assumed, not measured: from the detector's own threshold up to the scores that its documentation
shows of plain faces (0.70 to 0.79)."""
_LEAST_SCORE, _LEAST_HEAD, _OVERLAP, _STEP = 0.25, 0.4, 0.7, 32
"""Of faces and of heads the scores from which their authors count them, as ``dghs-imgutils`` does.
"""
_SIDE = 384
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_AROUND = (2.0, 1.0, 2.0, 4.0)
"""What of a character is compared: so many heights of the face to the left of its middle, above
its top, to the right, and below its top."""


def detector_of(folder: Path) -> Path | None:
    """Return the detector's file in a folder, or in a folder of its own there; None without one."""
    return _newest(folder, "face_detect_v*")


def _newest(folder: Path, name: str) -> Path | None:
    return max([*folder.glob(f"{name}/model.onnx"), *folder.glob(f"{name}.onnx")], default=None)


class AnimeFaces:
    """DeepGHS' detector and CCIP; see :class:`.face_backends.FaceBackend`.

    The detector gives no landmarks, so that neither pose nor yaw is known. Where there is a
    detector of heads too, a head in which no face was found, as it is from behind, counts as one.

    Args:
        folder: Holds ``face_detect_v*/model.onnx`` and, to tell characters apart, a folder with
            ``model_feat.onnx``, ``model_metrics.onnx`` and ``metrics.json``; for heads
            ``head_detect_v*/model.onnx``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder of the files.

        Raises:
            FacePackError: The detector is not there.
        """
        if detector_of(self._folder) is None:
            raise FacePackError(
                f"There is no anime face detector in {self._folder}. Get it and CCIP with: "
                f"hf download {DETECTOR_REPO} {DETECTOR}/model.onnx --local-dir {self._folder} && "
                f'hf download {RECOGNISER_REPO} --include "{RECOGNISER}/m*" '
                f"--local-dir {self._folder}"
            )
        return self._folder

    @property
    def _detector_path(self) -> Path:
        found = detector_of(self.folder)
        assert found is not None  # noqa: S101  # what folder has said
        return found

    @property
    def _heads_path(self) -> Path | None:
        return _newest(self._folder, "head_detect_v*")

    @property
    def _recogniser_path(self) -> Path | None:
        places = [*self._folder.glob("*/model_feat.onnx"), *self._folder.glob("model_feat.onnx")]
        return max(places, default=None)

    @cached_property
    def fingerprint(self) -> str:
        """What the models are: the bytes of the files in use, and how they are used."""
        used = (self._detector_path, self._recogniser_path, self._heads_path)
        return "anime/1 " + " ".join(file_fingerprint(path) for path in used if path)

    @property
    def threshold(self) -> float:
        """Least score that counts as a face."""
        return _LEAST_SCORE

    @property
    def layout(self) -> str:
        """Which five points its landmarks are: none."""
        return NO_LANDMARKS

    @property
    def has_recogniser(self) -> bool:
        """Whether characters can be told apart."""
        return self._recogniser_path is not None

    @cached_property
    def calibration(self) -> Calibration:
        """How its scores and similarities are read; the latter as CCIP's authors have measured."""
        return Calibration(
            CURVE,
            self._least_cosine(),
            source="scores in the detector's documentation, not measured; identity as CCIP's "
            "authors have measured it",
        )

    def _least_cosine(self) -> float | None:
        """Return the cosine at which CCIP's own difference is its authors' threshold.

        The difference is a falling function of the cosine of two vectors alone, and is given as a
        network of its own: it is asked for, halving the interval.
        """
        if self._recogniser_path is None:
            return None
        place = self._recogniser_path.parent
        difference, said = place / "model_metrics.onnx", place / "metrics.json"
        if not difference.is_file() or not said.is_file():
            return None
        try:
            threshold = float(parse(plain_text(said))["threshold"])
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise FacePackError(f"{said} cannot be used: {error}. Get it again.") from error
        session, length = _session(difference), self._length
        low, high = -1.0, 1.0
        for _ in range(24):
            middle = (low + high) / 2
            pair = np.zeros((2, length), np.float32)
            pair[:, 0] = 1.0, middle
            pair[1, 1] = np.sqrt(1 - middle**2)
            (found,) = session.run(None, {session.get_inputs()[0].name: pair})
            if float(np.asarray(found)[0, 1]) > threshold:
                low = middle
            else:
                high = middle
        return round(high, 4)

    @cached_property
    def _length(self) -> int:
        shape = self._recogniser.get_outputs()[0].shape
        return shape[-1] if isinstance(shape[-1], int) else 768

    @cached_property
    def _detector(self) -> Any:
        return _detector_in(self._detector_path)

    @cached_property
    def _heads(self) -> Any | None:
        return None if self._heads_path is None else _detector_in(self._heads_path)

    @cached_property
    def _recogniser(self) -> Any:
        if self._recogniser_path is None:
            raise FacePackError(
                f"The face pack in {self._folder} has no CCIP, so that characters cannot be told "
                f'apart. Get it with: hf download {RECOGNISER_REPO} --include "{RECOGNISER}/m*" '
                f"--local-dir {self._folder}"
            )
        return _session(self._recogniser_path)

    def detect(self, image: Pixels, edge: int) -> Faces:
        """Find faces in an image that is scaled down to a longest edge of ``edge`` pixels.

        Raises:
            FacePackError: The detector is not there, or another kind of network.
        """
        boxes, scores = _found(self._detector, image, edge, _LEAST_SCORE)
        if self._heads is not None:
            heads, certain = _found(self._heads, image, edge, _LEAST_HEAD)
            middles = (boxes[:, :2] + boxes[:, 2:]) / 2
            faceless = [
                not ((middles >= head[:2]) & (middles <= head[2:])).all(axis=1).any()
                for head in heads
            ]
            faces = [face_within(head.tolist()) for head in heads[faceless]]
            boxes = np.concatenate([boxes, np.array(faces, np.float32).reshape(-1, 4)])
            scores = np.concatenate([scores, certain[faceless]])
        unknown = np.full((len(boxes), 5, 2), np.nan, np.float32)
        return Faces.by_score(boxes, scores, unknown)

    def crop(self, image: Pixels, landmarks: FloatArray, box: FloatArray | None = None) -> Pixels:
        """Cut out what shows of a character around its face, as the recogniser wants it.

        Args:
            image: BGR, uint8.
            landmarks: Not used.
            box: The face; the whole image without one.
        """
        import cv2

        if box is not None:
            left, top, right, bottom = (float(edge) for edge in box)
            middle, face = (left + right) / 2, bottom - top
            before, above, behind, below = (face * part for part in _AROUND)
            height, width = image.shape[:2]
            x0, x1 = max(0, int(middle - before)), min(width, int(middle + behind) + 1)
            y0, y1 = max(0, int(top - above)), min(height, int(top + below) + 1)
            image = image[y0:y1, x0:x1] if x1 > x0 and y1 > y0 else image
        return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)

    def identify(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embed crops.

        Returns:
            Shape ``(n, d)``, of any length; d is 768 for CCIP.
        """
        session = self._recogniser
        pixels = np.stack([crop[..., ::-1] for crop in crops]).astype(np.float32) / 255
        entry = ((pixels - _MEAN) / _DEVIATION).transpose(0, 3, 1, 2)
        name = session.get_inputs()[0].name
        rows = session.run(None, {name: np.ascontiguousarray(entry, np.float32)})[0]
        return np.asarray(rows, dtype=np.float32)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait take the processors from whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = own_processors()
    known = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [one for one in known if one in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime raises many kinds for a damaged file
        raise FacePackError(f"{path} cannot be loaded: {error}. Get it again.") from error


def _detector_in(path: Path) -> Any:
    session = _session(path)
    if len(session.get_outputs()[0].shape) != 3:
        raise FacePackError(f"{path} is no detector of the kind of YOLOv8. Get it again.")
    return session


def _found(
    session: Any, image: Pixels, edge: int, least: float
) -> tuple[FloatArray, NDArray[np.float32]]:
    """Return the boxes that a detector finds, in the image's pixels, and their scores.

    Args:
        session: The detector, of one kind of thing or of several that count alike.
        image: BGR, uint8.
        edge: The image is scaled down to a longest edge of so many pixels.
        least: Only higher scores count.
    """
    import cv2

    height, width = image.shape[:2]
    entry = session.get_inputs()[0]
    down, across = entry.shape[2:]
    if not isinstance(down, int) or not isinstance(across, int):
        scale = min(1.0, edge / max(height, width))
        down, across = (int(np.ceil(side * scale / _STEP)) * _STEP for side in (height, width))
    small = cv2.resize(image, (across, down), interpolation=cv2.INTER_AREA)
    pixels = np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255
    rows = np.asarray(session.run(None, {entry.name: pixels})[0], np.float32)[0].T
    # Center, width and height, then the score of each kind.
    scores = rows[:, 4:].max(axis=1)
    rows, scores = rows[scores > least], scores[scores > least]
    corner = rows[:, :2] - rows[:, 2:4] / 2
    flat = np.concatenate([corner, rows[:, 2:4]], axis=1)
    kept = np.asarray(
        cv2.dnn.NMSBoxes(flat.tolist(), scores.tolist(), least, _OVERLAP), int
    ).reshape(-1)
    boxes = np.concatenate([corner, corner + rows[:, 2:4]], axis=1)[kept]
    boxes *= np.array([width / across, height / down] * 2, np.float32)
    return boxes, scores[kept]
