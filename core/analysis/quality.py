"""Technical quality: sharpness, contrast and the detector's confidence, as one number.

The score is the seed-document recipe's piecewise-linear formula. Each of the three components rises
from 0 to 1 between four breakpoints, and the quality is their weighted sum::

    quality = 0.5 * sharpness + 0.3 * contrast + 0.2 * confidence

With packs for photographs the quality is the calibrated one of :mod:`.face_quality` unless the
formula is asked for by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.typing import NDArray

from ..defaults import CALIBRATED, FACE_PACK, MINIMUM_QUALITY, Formula
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .decoding import read_image
from .face_looks import LOOK_COLUMNS
from .face_quality import PARTS, UnknownLooksError, part_scores
from .pixels import PixelMeasurement, known_pixels
from .sweep import sweep

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .face_analyser import FaceAnalyser

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ramp:
    """A piecewise-linear score between four breakpoints.

    The score is 0 below ``zero``, then rises to ``low_score`` at ``low``, to ``high_score`` at
    ``high``, and from there on by ``last_rise`` every ``last_span``, up to 1.
    """

    zero: float
    low: float
    high: float
    last_span: float
    last_rise: float
    low_score: float = 0.4
    high_score: float = 0.8

    def __call__(self, value: npt.ArrayLike) -> FloatArray:
        """Score values of any shape; NaN scores 0."""
        x = np.asarray(value, dtype=np.float64)
        first = (x - self.zero) / (self.low - self.zero) * self.low_score
        rise = self.high_score - self.low_score
        second = self.low_score + (x - self.low) / (self.high - self.low) * rise
        third = self.high_score + (x - self.high) / self.last_span * self.last_rise
        score = np.where(x < self.low, first, np.where(x < self.high, second, third))
        return np.where(x >= self.zero, np.minimum(score, 1.0), 0.0)


@dataclass(frozen=True)
class QualityThresholds:
    """Breakpoints and weights of the quality score; the defaults are the seed-document recipe's."""

    sharpness: Ramp = field(default=Ramp(100, 200, 400, last_span=200, last_rise=0.2))
    """Of the variance of the Laplacian of the grey image (8-bit values)."""
    contrast: Ramp = field(default=Ramp(20, 50, 100, last_span=100, last_rise=0.1, high_score=1.0))
    """Of the standard deviation of the grey image (8-bit values)."""
    confidence: Ramp = field(default=Ramp(0.85, 0.90, 0.95, last_span=0.05, last_rise=0.2))
    """Of the detector's score of the only face; any other number of faces scores 0."""
    sharpness_weight: float = 0.5
    contrast_weight: float = 0.3
    confidence_weight: float = 0.2


@dataclass(frozen=True)
class QualityScores:
    """Scores in [0, 1], one value an image each."""

    quality: FloatArray
    sharpness: FloatArray
    contrast: FloatArray
    confidence: FloatArray


SEED_DOCUMENT = QualityThresholds()
"""The seed-document recipe's thresholds."""
MINIMUM_KEY = "quality.minimum"
"""The key of the least quality in a project file, and in :attr:`.ImageSet.limits`."""


def quality_scores(
    raw_sharpness: npt.ArrayLike,
    raw_contrast: npt.ArrayLike,
    face_count: npt.ArrayLike,
    confidence: npt.ArrayLike,
    thresholds: QualityThresholds = SEED_DOCUMENT,
) -> QualityScores:
    """Score many images at once.

    Args:
        raw_sharpness: Variance of the Laplacian, shape ``(n,)``.
        raw_contrast: Standard deviation of the grey values, shape ``(n,)``.
        face_count: Number of faces found, shape ``(n,)``.
        confidence: The detector's score of the face in [0, 1]; read only where there is one face.
        thresholds: Breakpoints and weights.

    Returns:
        The three components and the quality, float64, shape ``(n,)``.

    Example:
        >>> scores = quality_scores([300.0], [75.0], [1], [0.95])
        >>> round(float(scores.quality[0]), 3)
        0.67
    """
    sharpness = thresholds.sharpness(raw_sharpness)
    contrast = thresholds.contrast(raw_contrast)
    one_face = np.asarray(face_count) == 1
    certain = np.where(one_face, thresholds.confidence(confidence), 0.0)
    quality = (
        thresholds.sharpness_weight * sharpness
        + thresholds.contrast_weight * contrast
        + thresholds.confidence_weight * certain
    )
    return QualityScores(quality, sharpness, contrast, certain)


def quality_ceiling(
    raw_sharpness: npt.ArrayLike,
    raw_contrast: npt.ArrayLike,
    thresholds: QualityThresholds = SEED_DOCUMENT,
) -> FloatArray:
    """Return the best quality that an image can reach, whatever the detector finds in it.

    What lies below the minimum even so need not be looked at any further.
    """
    sharpness = np.asarray(raw_sharpness, dtype=np.float64)
    certain = np.full(sharpness.shape, np.inf)
    return quality_scores(sharpness, raw_contrast, np.ones(sharpness.shape), certain,
                          thresholds).quality  # fmt: skip


def score_quality(
    images: ImageSet,
    store: FeatureStore,
    thresholds: QualityThresholds = SEED_DOCUMENT,
    minimum: float = MINIMUM_QUALITY,
    progress: Progress = silent,
    formula: Formula | None = None,
) -> ImageSet:
    """Score each image and reject those below ``minimum`` as ``low_quality``.

    A disturbed copy (column ``disturbance``) is scored as any image, and judged by the image that
    was disturbed: it is rejected where that is, if it is in the set, and else spared.

    Adds ``raw_sharpness``, ``raw_contrast``, ``sharpness_score``, ``contrast_score``,
    ``confidence_score`` and ``quality``. Images that are rejected already are scored too where
    the store knows their pixels; quality is null where no face was looked for.

    The quality is the seed-document formula's, or the calibrated one of the face's pixels. The
    latter adds ``seed_document_quality`` beside it, and is null where there is no face.

    Args:
        images: With the columns of ``validate_faces``.
        store: Where measurements are kept; only what it lacks is measured.
        thresholds: Breakpoints and weights of the score.
        minimum: Least quality that is kept.
        progress: Watches.
        formula: ``seed-document`` or ``calibrated``; ``None`` takes the calibrated one where faces
            were measured with a pack for photographs.

    Raises:
        MissingColumnError: Faces were not validated yet.
        UnknownLooksError: The calibrated formula, and faces were validated with another pack.
    """
    images.require("face_count", "'validate_faces'")
    images, measured = read_pixels(images, store, progress=progress)
    images = with_raw_columns(images, measured)
    # The formula is of the detector's own score, which a calibrated pack keeps apart.
    score = "face_score" if "face_score" in images.table.columns else "face_confidence"
    columns = ["raw_sharpness", "raw_contrast", "face_count", score]
    known = [images.table[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in columns]
    scores = quality_scores(known[0], known[1], known[2], known[3], thresholds)
    seen, counted = ~np.isnan(known[0]), ~np.isnan(known[2])
    images = images.with_columns(
        _column("sharpness_score", scores.sharpness, seen),
        _column("contrast_score", scores.contrast, seen),
        _column("confidence_score", scores.confidence, counted),
        _column("quality", scores.quality, seen & counted),
    )
    if formula == CALIBRATED or (formula is None and LOOK_COLUMNS[0] in images.table.columns):
        return _by_looks(images, minimum).limited({MINIMUM_KEY: minimum})
    below = seen & counted & (scores.quality < minimum)
    images = _reject_copies(images, below)
    below &= ~_is_copy(images)
    details = [
        f"quality {scores.quality[i]:.3f} is below {minimum:g} (sharpness "
        f"{scores.sharpness[i]:.2f}, contrast {scores.contrast[i]:.2f}, face confidence "
        f"{scores.confidence[i]:.2f})"
        if below[i]
        else ""
        for i in range(len(images))
    ]
    rejected = images.reject(below, Rejection.LOW_QUALITY, details)
    return rejected.limited({MINIMUM_KEY: minimum})


def _by_looks(images: ImageSet, minimum: float) -> ImageSet:
    """Take the calibrated quality in place of the formula's, and reject what is below."""
    if LOOK_COLUMNS[0] not in images.table.columns:
        raise UnknownLooksError
    looks = {name: images.table[name].fill_null(np.nan).to_numpy() for name in LOOK_COLUMNS}
    parts = part_scores(looks)
    quality = np.min(list(parts.values()), axis=0)
    known = (images.table["face_count"].fill_null(0) > 0).to_numpy()
    quality = np.where(np.isnan(quality), 0.0, quality)  # a face that lies outside its image
    images = images.with_columns(
        images.table["quality"].alias("seed_document_quality"), _column("quality", quality, known)
    )
    below = known & (quality < minimum)
    images = _reject_copies(images, below)
    below &= ~_is_copy(images)
    details = [
        f"quality {quality[i]:.3f} is below {minimum:g} (the face's "
        + ", ".join(
            f"{PARTS[name]} {parts[name][i]:.2f}" for name in parts if parts[name][i] < minimum
        )
        + ")"
        if below[i]
        else ""
        for i in range(len(images))
    ]
    return images.reject(below, Rejection.LOW_QUALITY, details)


def read_pixels(
    images: ImageSet, store: FeatureStore, progress: Progress = silent
) -> tuple[ImageSet, list[PixelMeasurement | None]]:
    """Measure the accepted images that the store does not know yet.

    Returns:
        The set with what cannot be read rejected as ``unreadable``, and one measurement a row:
        ``None`` where a row was rejected before it was ever decoded, or cannot be read.
    """
    images = sweep(images, store, stage="Measuring sharpness and contrast", progress=progress)
    return images, known_pixels(images, store)


def reject_hopeless(
    images: ImageSet,
    measured: Sequence[PixelMeasurement | None],
    thresholds: QualityThresholds,
    minimum: float,
) -> ImageSet:
    """Reject, before any face is looked for, what no face could lift to ``minimum``.

    Adds ``raw_sharpness`` and ``raw_contrast``.
    """
    images = with_raw_columns(images, measured)
    raw = [images.table[name].fill_null(np.nan).to_numpy()
           for name in ("raw_sharpness", "raw_contrast")]  # fmt: skip
    ceiling = quality_ceiling(raw[0], raw[1], thresholds)
    below = ~np.isnan(raw[0]) & (ceiling < minimum)
    images = _reject_copies(images, below)
    below &= ~_is_copy(images)
    details = [
        f"quality {ceiling[i]:.3f} at most, whatever the face, is below {minimum:g} (sharpness "
        f"{raw[0][i]:.0f}, contrast {raw[1][i]:.0f}); no face was looked for"
        if below[i]
        else ""
        for i in range(len(images))
    ]
    return images.reject(below, Rejection.LOW_QUALITY, details)


def _is_copy(images: ImageSet) -> NDArray[np.bool_]:
    """Return which rows are disturbed copies: what was done on purpose is no fault."""
    if "disturbance" not in images.table.columns:
        return np.zeros(len(images), dtype=bool)
    return np.asarray(images.table["disturbance"].is_not_null().to_numpy(), dtype=bool)


def _reject_copies(images: ImageSet, below: NDArray[np.bool_]) -> ImageSet:
    """Reject the disturbed copies of images whose own quality is too low."""
    copies = _is_copy(images)
    if not copies.any():
        return images
    faulty = set(images.table["hash"].filter(pl.Series(below & ~copies)))
    mask = copies & images.table["disturbance_source"].is_in(faulty).fill_null(False).to_numpy()
    return images.reject(mask, Rejection.LOW_QUALITY, "the image that was disturbed is of too low "
                         "a quality itself")  # fmt: skip


def with_raw_columns(images: ImageSet, measured: Sequence[PixelMeasurement | None]) -> ImageSet:
    """Add ``raw_sharpness`` and ``raw_contrast``, null where an image was not decoded."""
    return images.with_columns(
        pl.Series("raw_sharpness", [m.sharpness if m else None for m in measured], pl.Float64),
        pl.Series("raw_contrast", [m.contrast if m else None for m in measured], pl.Float64),
    )


def _column(name: str, values: FloatArray, known: NDArray[np.bool_]) -> pl.Series:
    return pl.Series(name, np.where(known, values, np.nan), dtype=pl.Float64).fill_nan(None)


class QualityAssessment:
    """Quality metrics of single files: the seed-document recipe's class, method for method.

    Each image is decoded once and shared by the three measurements.

    Args:
        pack: insightface pack that finds the face: a name (``buffalo_l``), a folder of ONNX files,
            or ``miniature``. Ignored when ``analyser`` is given.
        det_size: Edge of the square in which faces are looked for, in pixels.
        providers: Execution providers of onnxruntime, the preferred first.
        analyser: A face analyser to share with other stages.
        thresholds: Breakpoints and weights of the score.

    Raises:
        FacePackError: The pack is missing; raised when a face is first looked for.

    Example:
        >>> quality = QualityAssessment(pack="miniature")
        >>> scores = quality.score_quality("photos/000.png")
        >>> scores["face_detected"], round(scores["contrast"], 1)
        (True, 0.7)
    """

    def __init__(
        self,
        pack: str | Path = FACE_PACK,
        *,
        det_size: int | None = 640,
        providers: Sequence[str] | None = None,
        analyser: FaceAnalyser | None = None,
        thresholds: QualityThresholds = SEED_DOCUMENT,
    ) -> None:
        from .face_analyser import FaceAnalyser

        self.face_detector = analyser or FaceAnalyser(pack, det_size, providers)
        self.thresholds = thresholds

    def calculate_sharpness(self, image_path: str | Path) -> float:
        """Return the variance of the Laplacian of the grey image."""
        return PixelMeasurement.of(read_image(image_path)).sharpness

    def calculate_contrast(self, image_path: str | Path) -> float:
        """Return the standard deviation of the grey image."""
        return PixelMeasurement.of(read_image(image_path)).contrast

    def detect_faces(self, image_path: str | Path) -> list[Any]:
        """Return insightface's ``Face`` objects (``bbox``, ``det_score``, ``kps``), best first."""
        return self.face_detector.detect(read_image(image_path)).as_insightface()

    def score_quality(self, image_path: str | Path) -> dict[str, float | bool]:
        """Score a file.

        Returns:
            ``quality``, ``sharpness``, ``contrast`` and ``confidence`` in [0, 1], ``raw_sharpness``
            and ``raw_contrast`` in grey values, and ``face_detected``: whether there is exactly
            one face. The formula is taken in double precision throughout.

        Raises:
            UnreadableImageError: The file is not a whole image.
        """
        image = read_image(image_path)
        raw = PixelMeasurement.of(image)
        faces = self.face_detector.detect(image)
        count = len(faces.scores)
        score = float(faces.scores[0]) if count == 1 else 0.0
        scores = quality_scores(raw.sharpness, raw.contrast, count, score, self.thresholds)
        return {
            "quality": float(scores.quality),
            "sharpness": float(scores.sharpness),
            "contrast": float(scores.contrast),
            "confidence": float(scores.confidence),
            "raw_sharpness": raw.sharpness,
            "raw_contrast": raw.contrast,
            "face_detected": count == 1,
        }


__all__ = [
    "SEED_DOCUMENT",
    "QualityAssessment",
    "QualityScores",
    "QualityThresholds",
    "Ramp",
    "quality_ceiling",
    "quality_scores",
    "score_quality",
]
