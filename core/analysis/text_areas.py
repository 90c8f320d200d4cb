"""Text in images: captions, watermarks, signs; how much of an image it takes.

PP-OCR's detector (Apache-2.0, PaddleOCR) finds areas that may be text, and its recogniser reads
them: the detector alone takes faces for text. Both are files that the well-kept package
``rapidocr`` carries for onnxruntime; nothing else of it is used, so that it needs none of its own
requirements, some of which would replace OpenCV.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..counts import how_many
from ..errors import CuratorError
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .decoding import Pixels, decode_ahead
from .fingerprints import file_fingerprint

if TYPE_CHECKING:
    from ..features import FeatureStore

ANALYSER = "text"
PACKAGES = ("rapidocr", "rapidocr_onnxruntime")
"""Packages that carry the models, the preferred first."""

_EDGE, _STEP = 960, 32
"""Longest side at which text is looked for, and what sides of the detector's image divide by."""
_READ_AT = 2000
"""Longest side of the image that text is read from."""
_INK, _CERTAIN, _GROWTH = 0.3, 0.5, 1.6
"""As its authors have them: from which value of the detector's map on a pixel is of text; least
mean of the map within an area; by which part of its area over its circumference an area grows,
since the network draws text thinner than it is (Liao et al., 2020, equation 10)."""
_THIN, _MOST_AREAS, _MOST_READ = 3.0, 1000, 64
_LINE, _NARROW, _WIDE = 48, 320, 1600
"""Height of a line as it is read, and its least and largest width."""
_LEGIBLE, _CHARACTERS = 0.7, 2
"""Least mean probability of an area's characters, and their least number, that make it text."""
_BATCH = 32
_FORM = struct.Struct("<di")

Area = tuple[tuple[float, float], tuple[float, float], float]
"""A turned rectangle as OpenCV has it: center, size and angle, in parts of width and height."""


class TextModelError(CuratorError):
    """There is nothing that finds text, or it cannot be used."""


@dataclass(frozen=True)
class Text:
    """What of an image is text.

    Attributes:
        share: Of the image's area.
        areas: In how many places; a line of words is one or a few.
    """

    share: float = 0.0
    areas: int = 0

    def to_bytes(self) -> bytes:
        """Pack for the feature store."""
        return _FORM.pack(self.share, self.areas)

    @staticmethod
    def from_bytes(data: bytes) -> Text:
        """Unpack what :meth:`to_bytes` made."""
        return Text(*_FORM.unpack(data))


def find_models(folder: Path | str | None = None) -> tuple[Path, Path]:
    """Return the ONNX files of the detector and of the recogniser.

    Args:
        folder: Holds one ``*det*.onnx`` and one ``*rec*.onnx``; that of an installed package
            unless given.

    Raises:
        TextModelError: There are none.
    """
    if folder is not None:
        place = Path(folder).expanduser()
        pair = _pair_in(place)
        if pair is None:
            raise TextModelError(
                f"{place} is no folder with a text detector and a recogniser of PP-OCR "
                "(*det*.onnx and *rec*.onnx). Name one, or none to take the package rapidocr's."
            )
        return pair
    for package in PACKAGES:
        found = find_spec(package)
        for path in (found.submodule_search_locations or ()) if found else ():
            pair = _pair_in(Path(path) / "models")
            if pair is not None:
                return pair
    raise TextModelError(
        "Text in images is found by models in the package rapidocr, which is not installed. "
        'Install it with: python -m pip install --no-deps "rapidocr>=3.4,<3.9" (15 MB; only its '
        "models are used, and --no-deps keeps all other packages as they are), or leave the limit "
        "on text out."
    )


def _pair_in(folder: Path) -> tuple[Path, Path] | None:
    pairs = [sorted(folder.glob(f"*{kind}*.onnx"))[-1:] for kind in ("det", "rec")]
    return (pairs[0][0], pairs[1][0]) if all(pairs) else None


class TextFinder:
    """PP-OCR's detector and recogniser; they load when they are first needed.

    Args:
        folder: As of :func:`find_models`.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.files = find_models(folder)

    @cached_property
    def fingerprint(self) -> str:
        """What decides its measurements."""
        return " ".join([*(file_fingerprint(file) for file in self.files), "text/1"])

    @cached_property
    def _sessions(self) -> tuple[Any, Any]:
        detector, recogniser = (_session(file) for file in self.files)
        shapes = [detector.get_outputs()[0].shape, recogniser.get_outputs()[0].shape]
        for file, shape, length in zip(self.files, shapes, (4, 3), strict=True):
            if len(shape) != length:
                raise TextModelError(
                    f"{file} is no model of PP-OCR: it makes {shape}. Name a folder with its "
                    "detector (*det*.onnx) and its recogniser (*rec*.onnx)."
                )
        return detector, recogniser

    def load(self) -> None:
        """Load the models.

        Raises:
            TextModelError: They cannot be used.
        """
        _ = self._sessions

    def find(self, image: Pixels) -> Text:
        """Return what of an image (BGR, uint8) is text."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, _EDGE / max(height, width))
        across, down = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (width, height))
        small = cv2.resize(image, (across, down), interpolation=cv2.INTER_AREA)
        ink = _run(self._sessions[0], _normal(small)[None])[0, 0]
        areas = areas_of(ink)
        scale = min(1.0, _READ_AT / max(height, width))
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        sides = (image.shape[1] / across, image.shape[0] / down)
        read = [self._is_legible(_line(image, area, sides)) for area in areas]
        covered = np.zeros(ink.shape, np.uint8)
        for area, legible in zip(areas, read, strict=True):
            if legible:
                cv2.fillPoly(covered, [np.round(cv2.boxPoints(area)).astype(np.int32)], 1)
        return Text(float(covered.mean()), sum(read))

    def _is_legible(self, line: Pixels) -> bool:
        """Whether a line reads as characters."""
        odds = _run(self._sessions[1], _normal(line)[None])[0]
        best, sure = odds.argmax(axis=1), odds.max(axis=1)
        # Number 0 stands for nothing; a character that goes on is one (Graves et al., 2006).
        begins = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
        return int(begins.sum()) >= _CHARACTERS and float(sure[begins].mean()) >= _LEGIBLE


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # images are measured in threads of their own
    options.log_severity_level = 3
    known = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [one for one in known if one in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(file, options, providers=providers)
    except Exception as error:  # onnxruntime raises many kinds for a damaged file
        raise TextModelError(f"{file} cannot be loaded: {error}. Install it again.") from error


def _run(session: Any, entry: NDArray[np.float32]) -> NDArray[np.float32]:
    result = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(entry)})[0]
    return np.asarray(result, dtype=np.float32)


def _normal(image: Any) -> NDArray[np.float32]:
    """Return an image as both networks want it: channels first, from -1 to 1."""
    return np.asarray(image.astype(np.float32) / 127.5 - 1, np.float32).transpose(2, 0, 1)


def areas_of(ink: NDArray[np.float32]) -> list[Area]:
    """Return where there may be text by the detector's map, the largest areas first.

    Args:
        ink: Values from 0 to 1, of any height and width.

    Returns:
        Turned rectangles in the map's pixels, 64 at most.
    """
    import cv2

    outlines, _ = cv2.findContours(
        (ink > _INK).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
    )
    areas: list[Area] = []
    for outline in outlines[:_MOST_AREAS]:
        center, (across, down), angle = cv2.minAreaRect(outline)
        if min(across, down) < _THIN:
            continue
        left, top, width, height = cv2.boundingRect(outline)
        inside = np.zeros((height, width), np.uint8)
        cv2.drawContours(inside, [outline], -1, 1, -1, offset=(-left, -top))
        if ink[top : top + height, left : left + width][inside > 0].mean() < _CERTAIN:
            continue
        more = across * down * _GROWTH / (across + down)
        areas.append((tuple(center), (across + more, down + more), angle))
    areas.sort(key=lambda area: -area[1][0] * area[1][1])
    return areas[:_MOST_READ]


def _line(image: Pixels, area: Area, sides: tuple[float, float]) -> Any:
    """Cut an area out, turned level, as high as the recogniser wants it.

    Args:
        image: BGR, uint8.
        area: In the detector's pixels.
        sides: The image's pixels over the detector's, in width and height.
    """
    import cv2

    corners = (cv2.boxPoints(area) * np.asarray(sides, np.float32)).astype(np.float32)
    middle = corners.mean(axis=0)
    corners = corners[np.argsort(np.arctan2(*(corners - middle).T[::-1]))]
    corners = np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0)
    across = float(np.linalg.norm(corners[1] - corners[0]))
    down = float(np.linalg.norm(corners[3] - corners[0]))
    if down >= 1.5 * across:  # text that runs downwards is read after a quarter turn
        corners, across, down = np.roll(corners, -1, axis=0), down, across
    width = int(np.clip(round(_LINE * across / max(down, 1.0)), 8, _WIDE))
    target = np.array([[0, 0], [width, 0], [width, _LINE], [0, _LINE]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    line = cv2.warpPerspective(
        image, matrix, (width, _LINE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    rest = max(0, _NARROW - width)
    return cv2.copyMakeBorder(line, 0, 0, 0, rest, cv2.BORDER_CONSTANT, value=(127, 127, 127))


def reject_text(
    images: ImageSet,
    store: FeatureStore,
    finder: TextFinder,
    most: float,
    progress: Progress = silent,
) -> ImageSet:
    """Reject images of which text takes more than a share, as ``text``.

    Adds ``text_share`` and ``text_areas``.

    Args:
        images: The candidates; only accepted ones are looked at.
        store: Where measurements are kept.
        finder: What finds text.
        most: Most area that text may take, as a share of the image's.
        progress: Watches.

    Raises:
        TextModelError: The models cannot be used.
    """
    known = _measured(images, store, finder, progress)
    shares = [None if one is None else one.share for one in known]
    over = np.array([share is not None and share > most for share in shares], dtype=bool)
    words = [
        "" if one is None else
        f"text in {how_many(one.areas, 'place')} takes {one.share:.1%} of the image; {most:.1%} "
        "are let pass"
        for one in known
    ]  # fmt: skip
    return images.with_columns(
        pl.Series("text_share", shares, pl.Float64),
        pl.Series("text_areas", [None if one is None else one.areas for one in known], pl.Int32),
    ).reject(over, Rejection.TEXT, words)


def _measured(
    images: ImageSet, store: FeatureStore, finder: TextFinder, progress: Progress
) -> Sequence[Text | None]:
    """Return what the store knows of each row, having measured what it lacks."""
    hashes = images.table["hash"].to_list()
    accepted = images.accepted_mask()
    rows = {key: row for row, key in enumerate(hashes) if key and accepted[row]}
    known = dict(store.get(list(rows), ANALYSER, finder.fingerprint))
    missing = [key for key in rows if key not in known]
    if missing:
        finder.load()
        paths = images.paths()
        progress.start("Looking for text", len(missing))
        fresh: dict[str, bytes] = {}
        for decoded in decode_ahead([paths[rows[key]] for key in missing], finder.find):
            if decoded.found is not None:  # what can't be read, a later stage says
                fresh[missing[decoded.index]] = decoded.found.to_bytes()
            if len(fresh) >= _BATCH or decoded.index == len(missing) - 1:
                store.put(fresh, ANALYSER, finder.fingerprint)
                known |= fresh
                fresh = {}
            progress.advance()
        progress.finish()
    return [Text.from_bytes(known[key]) if key in known else None for key in hashes]
