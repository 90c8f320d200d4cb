"""The analysis in one pass: each image is decoded once and measured as far as it is worth it.

What the stages of the analysis would ask for one after the other is measured together, cheapest
first: sharpness and contrast; faces, unless no face could lift the quality to the minimum; the
identity of a valid face; an embedding, if the quality suffices. The stages then find everything in
the feature store and decode nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..defaults import MINIMUM_QUALITY
from ..imageset import ImageSet
from ..progress import Progress, silent
from .pixels import PixelMeasurement, known_pixels
from .quality import (
    SEED_DOCUMENT,
    QualityThresholds,
    quality_ceiling,
    quality_scores,
    reject_hopeless,
)
from .sweep import sweep

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .embeddings import Embedder
    from .face_analyser import FaceAnalyser, Faces
    from .face_validation import FaceThresholds

REACH = 0.05
"""How far thresholds may move down later without anything being measured anew."""


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
    progress: Progress = silent,
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
        progress: Watches.

    Returns:
        The set with ``raw_sharpness`` and ``raw_contrast``. Rejected are unreadable files, and, as
        ``low_quality``, what no face could lift to ``minimum_quality``: in those no face was
        looked for.

    Raises:
        FacePackError: The face pack is missing or broken.
        ClipModelError: The open_clip model is missing or broken.
    """
    from .face_validation import FaceThresholds

    limits = thresholds or FaceThresholds()
    least_quality, least_confidence = minimum_quality - reach, limits.confidence - reach

    def worth_detecting(pixels: PixelMeasurement, faces: Faces | None) -> bool:
        ceiling = quality_ceiling(pixels.sharpness, pixels.contrast, quality)
        return float(ceiling) >= least_quality

    def worth_identifying(pixels: PixelMeasurement, faces: Faces | None) -> bool:
        return limits.admits(pixels, faces, least_confidence)

    def worth_embedding(pixels: PixelMeasurement, faces: Faces | None) -> bool:
        if faces is None or not limits.admits(pixels, faces, least_confidence):
            return False
        scores = quality_scores(
            pixels.sharpness, pixels.contrast, len(faces), float(faces.scores[0]), quality
        )
        return float(scores.quality) >= least_quality

    images = sweep(
        images,
        store,
        analyser=analyser,
        embedder=embedder,
        detect=worth_detecting,
        identify=worth_identifying,
        embed=worth_embedding,
        stage="Measuring the images",
        progress=progress,
    )
    return reject_hopeless(images, known_pixels(images, store), quality, minimum_quality)
