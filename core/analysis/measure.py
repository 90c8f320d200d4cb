"""The analysis in one pass: each image is decoded once and measured as far as it is worth it.

What the stages of the analysis would ask for one after the other is measured together, cheapest
first: sharpness and contrast; faces, unless no face could lift the quality to the minimum; the
identity of a valid face; an embedding, if the quality suffices. The stages then find everything in
the feature store and decode nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..defaults import CALIBRATED, MINIMUM_QUALITY, Formula
from ..imageset import ImageSet
from ..progress import Progress, silent
from .face_choice import REJECT
from .face_quality import UnknownLooksError, face_quality
from .pixels import ANALYSER, FINGERPRINT, PixelMeasurement, known_pixels
from .quality import (
    SEED_DOCUMENT,
    QualityThresholds,
    quality_ceiling,
    quality_scores,
    reject_hopeless,
    with_raw_columns,
)
from .sweep import sweep

if TYPE_CHECKING:
    from ..engines.work import Engine
    from ..features import FeatureStore
    from .embeddings import Embedder
    from .face_analyser import FaceAnalyser
    from .face_validation import FaceThresholds
    from .faces import Faces

REACH = 0.05
"""How far thresholds may move down later without anything being measured anew."""


@dataclass(frozen=True)
class WorthDetecting:
    """Faces are looked for where one could lift the quality to the least."""

    calibrated: bool
    least_quality: float
    quality: QualityThresholds

    def __call__(self, pixels: PixelMeasurement, faces: Faces | None) -> bool:
        """Decide for one image."""
        if self.calibrated:
            return True
        ceiling = quality_ceiling(pixels.sharpness, pixels.contrast, self.quality)
        return float(ceiling) >= self.least_quality


@dataclass(frozen=True)
class WorthIdentifying:
    """A face is identified that is valid, or nearly."""

    limits: FaceThresholds
    least_confidence: float

    def __call__(self, pixels: PixelMeasurement, faces: Faces | None) -> bool:
        """Decide for one face."""
        return self.limits.admits(pixels, faces, self.least_confidence)


@dataclass(frozen=True)
class WorthEmbedding:
    """An image is embedded that has such a face and nearly the least quality."""

    limits: FaceThresholds
    least_confidence: float
    calibrated: bool
    least_quality: float
    quality: QualityThresholds

    def __call__(self, pixels: PixelMeasurement, faces: Faces | None) -> bool:
        """Decide for one image."""
        if faces is None or not self.limits.admits_any(pixels, faces, self.least_confidence):
            return False
        if self.calibrated and faces.looks is not None:
            best = float(np.nanmax([-1.0, *face_quality(faces.looks)]))
            return best >= self.least_quality
        scores = quality_scores(
            pixels.sharpness, pixels.contrast, len(faces), float(faces.scores[0]), self.quality
        )
        return float(scores.quality) >= self.least_quality


def require_looks(formula: Formula | None, analyser: FaceAnalyser) -> None:
    """Refuse the calibrated formula with a pack that does not measure what it is of.

    Args:
        formula: As of :func:`measure`.
        analyser: The face models.

    Raises:
        UnknownLooksError: The pack is not for photographs.
    """
    if formula == CALIBRATED and not analyser.calibration.photographs:
        raise UnknownLooksError


def measure(
    images: ImageSet,
    analyser: FaceAnalyser,
    embedder: Embedder,
    store: FeatureStore,
    *,
    thresholds: FaceThresholds | None = None,
    quality: QualityThresholds = SEED_DOCUMENT,
    minimum_quality: float = MINIMUM_QUALITY,
    reach: float = REACH,
    formula: Formula | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> ImageSet:
    """Measure what later stages need, in one pass.

    Args:
        images: The candidates.
        analyser: The face models.
        embedder: The open_clip model.
        store: Filled; an image of which it knows everything needed is not decoded.
        thresholds: What a valid face is.
        quality: Breakpoints of the quality score.
        minimum_quality: What the quality must reach.
        reach: Images that fail by no more than this, in quality or in the face's confidence,
            are measured as well, so that both thresholds can be lowered that far for nothing.
        formula: Of the quality; ``None`` takes what suits the pack. With the calibrated one, which
            is of the face, faces are looked for in every image.
        progress: Watches.
        engine: Where images are measured; in this process unless given.

    Returns:
        The set with ``raw_sharpness`` and ``raw_contrast``. Rejected are unreadable files, and, as
        ``low_quality``, what no face could lift to ``minimum_quality``: in those no face was
        looked for.

    Raises:
        FacePackError: The face pack is missing or broken.
        ClipModelError: The open_clip model is missing or broken.
        UnknownLooksError: The calibrated formula, with a pack that is not for photographs.
    """
    from .face_validation import FaceThresholds

    require_looks(formula, analyser)

    limits = (thresholds or FaceThresholds()).of_pack(analyser, references=False)
    calibrated = formula == CALIBRATED or (formula is None and analyser.calibration.photographs)
    least_quality, least_confidence = minimum_quality - reach, limits.confidence - reach

    images = sweep(
        images,
        store,
        analyser=analyser,
        embedder=embedder,
        detect=WorthDetecting(calibrated, least_quality, quality),
        identify=WorthIdentifying(limits, least_confidence),
        embed=WorthEmbedding(limits, least_confidence, calibrated, least_quality, quality),
        every_face=limits.choice not in (None, REJECT),
        stage="Measuring the images",
        progress=progress,
        engine=engine,
    )
    measured = known_pixels(images, store)
    if calibrated:
        return with_raw_columns(images, measured)
    return reject_hopeless(images, measured, quality, minimum_quality)


def note_unreadable(images: ImageSet, store: FeatureStore, reasons: Mapping[str, str]) -> None:
    """Let the store know of images that turned out not to be readable as a whole.

    Args:
        images: The candidates.
        store: Whoever asks it for these images is told the reason from now on.
        reasons: Why, by the path in the table.
    """
    rows = images.table.select("path", "hash").drop_nulls().iter_rows()
    found = {key: reasons[path] for path, key in rows if path in reasons}
    values = {key: PixelMeasurement.unreadable(why).to_bytes() for key, why in found.items()}
    store.put(values, ANALYSER, FINGERPRINT)
