"""What is measured of a project's images before any are chosen: every stage up to the selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .imageset import ImageSet
from .progress import Progress, silent
from .project import Project
from .project_parts import resolved, thresholds_of, working

if TYPE_CHECKING:
    from .analysis.duplicates import IntArray
    from .analysis.embeddings import Embedder
    from .analysis.face_analyser import FaceAnalyser
    from .analysis.face_validation import FaceThresholds
    from .analysis.identities import References
    from .engines.work import Engine
    from .features import FeatureStore

CROPS_FOLDER = "crops"


@dataclass(frozen=True)
class Validated:
    """Images whose faces have been looked at, and what did that.

    Attributes:
        images: The candidates, with what was found and why some were left out.
        analyser: The models of faces.
        embedder: The model that embeds images.
        thresholds: What a valid face is, with what the pack says where the project says nothing.
        references: Whom the project's reference images show; None without any.
    """

    images: ImageSet
    analyser: FaceAnalyser
    embedder: Embedder
    thresholds: FaceThresholds
    references: References | None


@dataclass(frozen=True)
class Measurers:
    """What measures a project's images, and what is asked of it; models load when needed.

    Attributes:
        analyser: The models of faces.
        embedder: The model that embeds images.
        thresholds: What a valid face is, with what the pack says where the project says nothing.
        references: Images of whom the others are to show.
    """

    analyser: FaceAnalyser
    embedder: Embedder
    thresholds: FaceThresholds
    references: tuple[Path, ...]


def measurers_of(project: Project, base: Path | str = ".") -> Measurers:
    """Return what measures a project's images.

    Args:
        project: With its sections [faces] and [clip].
        base: The folder that relative paths of references start from.

    Raises:
        FacePackError: The face pack is not there.
        FaceChoiceError: The face of the references is to be chosen, and there are none.
    """
    from .analysis.embeddings import Embedder
    from .analysis.face_analyser import FaceAnalyser

    references = tuple(resolved(base, path) for path in project.faces.references)
    analyser = FaceAnalyser(project.faces.pack, det_size=project.faces.detection_size)
    embedder = Embedder(project.clip.model, project.clip.pretrained or None)
    thresholds = thresholds_of(project).of_pack(analyser, bool(references))
    return Measurers(analyser, embedder, thresholds, references)


def validate(
    images: ImageSet,
    project: Project,
    store: FeatureStore,
    output: Path,
    *,
    base: Path | str = ".",
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Validated:
    """Crop and measure what is not yet, and reject what is spoilt or without one valid face.

    Args:
        images: The candidates.
        project: Models and thresholds.
        store: Where measurements are kept.
        output: Folder of measurements, where crops go.
        base: The folder that relative paths of references start from.
        progress: Watches.
        engine: Where images are measured; as the project says unless given.

    Raises:
        ReferenceFaceError: A reference image does not show exactly one face.
    """
    from .analysis.face_validation import read_references, validate_faces
    from .analysis.measure import measure

    by = measurers_of(project, base)
    analyser, embedder, thresholds = by.analyser, by.embedder, by.thresholds
    known = read_references(analyser, store, by.references)  # refused before the folder is measured
    images = unblemished(project, images, store, progress, base=base, output=output)
    images = cropped(project, images, analyser, store, output, base=base, progress=progress)
    with working(project, engine) as at_work:
        images = measure(
            images,
            analyser,
            embedder,
            store,
            thresholds=thresholds,
            minimum_quality=project.quality.minimum,
            formula=project.quality.formula,
            progress=progress,
            engine=at_work,
        )
    images = validate_faces(images, analyser, store, thresholds, by.references, progress)
    return Validated(images, analyser, embedder, thresholds, known)


@dataclass(frozen=True)
class Measured:
    """Images that everything has been measured of, their near-duplicates, and by what."""

    images: ImageSet
    pairs: IntArray
    found: Validated


def measured_of(
    images: ImageSet,
    project: Project,
    store: FeatureStore,
    output: Path,
    base: Path | str,
    separate: Callable[[ImageSet], ImageSet] | None,
    progress: Progress,
    engine: Engine | None = None,
) -> Measured:
    """Validate, score, embed and cluster: all that comes before the selection."""
    from .analysis import clusters, duplicates, quality
    from .analysis.embed import embed

    minimum, formula = project.quality.minimum, project.quality.formula
    found = validate(images, project, store, output, base=base, progress=progress, engine=engine)
    images = found.images if separate is None else separate(found.images)
    images = quality.score_quality(
        images, store, minimum=minimum, progress=progress, formula=formula
    )
    images = embed(images, found.embedder, store, progress)
    grouping = project.clusters
    images = clusters.cluster(
        images,
        grouping.count,
        grouping.random_state,
        found.embedder,
        store=store,
    )
    pairs = duplicates.duplicate_pairs(images, project.duplicates.threshold)
    pairs = with_copies(pairs, project, images, store, progress)
    return Measured(duplicates.find_duplicates(images, pairs=pairs), pairs, found)


def unblemished(
    project: Project,
    images: ImageSet,
    store: FeatureStore,
    progress: Progress = silent,
    *,
    base: Path | str = ".",
    output: Path | None = None,
) -> ImageSet:
    """Return the images without those that the project finds spoilt as a whole.

    Args:
        project: With its section [blemishes].
        images: The candidates.
        store: Where measurements are kept.
        progress: Watches.
        base: The folder that relative paths start from.
        output: Folder of measurements, where images go whose bars are cut off; the project's
            unless given.

    Raises:
        TextModelError: Text is to be looked for, and what finds it is not here.
    """
    wanted = project.blemishes
    if wanted is None:
        return images
    from .analysis.bar_crops import cut_bars
    from .analysis.blemishes import BARS_FROM, BlemishLimits, reject_blemished
    from .analysis.text_areas import TextFinder, reject_text

    # What is missing is said before the first image is measured.
    models = None if wanted.text_models is None else resolved(base, wanted.text_models)
    finder = None if wanted.text is None else TextFinder(models)
    bars = wanted.bars
    if wanted.cut_bars:
        folder = (output or resolved(base, project.project.output)) / CROPS_FOLDER
        least = BARS_FROM if bars is None else bars
        images, bars = cut_bars(images, store, folder, least, progress), None
    limits = BlemishLimits(bars, wanted.grids_from)
    images = reject_blemished(images, store, limits, progress)
    if finder is None or wanted.text is None:
        return images
    return reject_text(images, store, finder, wanted.text, progress)


def cropped(
    project: Project,
    images: ImageSet,
    analyser: FaceAnalyser,
    store: FeatureStore,
    output: Path,
    *,
    base: Path | str = ".",
    progress: Progress = silent,
) -> ImageSet:
    """Return the images cropped as the project says, or as they are; see ``crop_images``."""
    if project.crop is None:
        return images
    from .analysis.cropping import CropWish, crop_images

    crop = project.crop
    return crop_images(
        images,
        analyser,
        store,
        output / CROPS_FOLDER,
        CropWish(
            crop.framing,
            crop.aspect,
            crop.minimum_side,
            upscale=bool(crop.upscale),
            reject=crop.impossible == "reject",
        ),
        thresholds=thresholds_of(project),
        references=[resolved(base, path) for path in project.faces.references],
        progress=progress,
    )


def with_copies(
    pairs: IntArray,
    project: Project,
    images: ImageSet,
    store: FeatureStore,
    progress: Progress = silent,
) -> IntArray:
    """Return near-duplicates, and collected images that are copies by their pixels if asked."""
    if project.duplicates.copies is False:
        return pairs
    from .analysis.copies import copy_pairs

    return copy_pairs(images, store, progress=progress, known=pairs)
