"""What a LoRA and its training set measure: the figures that the troubleshooting guide asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..analysis.diversity import mean_pairwise_distance, vendi_score
from ..analysis.pixels import require_readable
from ..dataset.sidecars import read_captions, read_metadata
from ..evaluation.figures import nearest
from ..evaluation.images import measured, similarities
from ..evaluation.summary import near_duplicates
from ..features import FeatureStore
from ..imageset import ImageSet
from ..lora.header import read_origin
from ..progress import Progress, silent

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation
    from ..evaluation.setup import Setup


@dataclass(frozen=True)
class TrainingSetFigures:
    """A training set as it is now.

    Attributes:
        images: How many.
        quality: Mean quality; NaN of none.
        low: Images below the document's 0.75, those without a score included.
        strangers: Share of faces whose identity lies below the threshold of the character.
        alike: Share of images that have a near-duplicate in the set.
        vendi: Effective number of different images.
        distance: Mean cosine distance of two images.
        clusters: How many clusters of images the metadata name; 0 if they name none.
        captions: How many different captions.
    """

    images: int
    quality: float
    low: int
    strangers: float
    alike: float
    vendi: float
    distance: float
    clusters: int
    captions: int


@dataclass(frozen=True)
class LoraFigures:
    """Images of a LoRA, made with its trigger word.

    Attributes:
        images: How many.
        consistency: Share that is the character.
        identity: Mean identity similarity with the training images; NaN of none.
        quality: Mean quality; NaN of none.
        artefacts: Share that fails the checks of faces or quality.
        vendi: Effective number of different images.
        distance: Mean cosine distance of two images.
        memorised: Share that is a near-duplicate of a training image.
        seeds: Mean similarity of images of one prompt with different seeds; NaN where no prompt was
            made with several.
        base_vendi: Effective number of different images of the base model, same prompts.
        base_distance: Mean cosine distance of two of those.
        base_artefacts: Share of those with artefacts.
        base_quality: Mean quality of those; NaN of none.
    """

    images: int
    consistency: float
    identity: float
    quality: float
    artefacts: float
    vendi: float
    distance: float
    memorised: float
    seeds: float
    base_vendi: float
    base_distance: float
    base_artefacts: float
    base_quality: float


@dataclass(frozen=True)
class Making:
    """How a LoRA was trained and its images are made. ``None`` is what nothing says.

    Attributes:
        rank: Of the adapters.
        learning_rate: At its highest.
        steps: Optimizer steps.
        passes: How often each image was seen.
        dropout: Of the adapters.
        still_falling: Whether the validation loss fell until the training ended.
        rising: By what share of its best the validation loss had risen when the training ended.
        sampling_steps: Denoising steps.
        guidance: Guidance scale.
        dtype: Number type of the weights that the images are made with.
    """

    rank: int | None = None
    learning_rate: float | None = None
    steps: int | None = None
    passes: float | None = None
    dropout: float | None = None
    still_falling: bool | None = None
    rising: float | None = None
    sampling_steps: int | None = None
    guidance: float | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Symptoms:
    """Everything that a diagnosis rests on.

    Attributes:
        training_set: The images it was trained on.
        lora: The images it makes.
        making: How it was trained, and how its images are made.
        settings: Every option of the training, where the file says them.
        base_model: What was trained, as the file calls it; empty if it does not say.
    """

    training_set: TrainingSetFigures
    lora: LoraFigures
    making: Making
    settings: Mapping[str, Any]
    base_model: str = ""

    def as_mapping(self) -> dict[str, Any]:
        """Return the figures as JSON knows them."""
        parts = {
            "training_set": asdict(self.training_set),
            "lora": asdict(self.lora),
            "making": asdict(self.making),
        }
        return {name: {k: _known(v) for k, v in part.items()} for name, part in parts.items()}


LOW_QUALITY = 0.75
"""The document: images to train on are above this quality."""


def examine(
    evaluation: Evaluation,
    dataset: Path,
    setup: Setup,
    store: FeatureStore,
    root: Path,
    *,
    history: pl.DataFrame | None = None,
    progress: Progress = silent,
) -> Symptoms:
    """Take the figures of a LoRA that has been evaluated.

    What the evaluation has measured is in its store, and is not measured again.

    Args:
        evaluation: Of the LoRA.
        dataset: What it was trained on.
        setup: How it was evaluated.
        store: Where the evaluation kept its measurements.
        root: The folder that the evaluation's paths start from.
        history: Of the training's losses, where it is known.
        progress: Watches.
    """
    training, embedded = _training_set(evaluation, dataset, setup, store, progress)
    analysers = setup.analysers(store)
    table = evaluation.table
    columns = ["path", "hash", "width", "height", "subject", "kind"]
    images = ImageSet.from_rows(table.select(columns).iter_rows(named=True), root)
    found, _, vectors = measured(images, analysers, progress)
    require_readable(found)
    of = {name: (table["series"] == name).to_numpy() for name in table["series"].unique()}
    own, base = vectors[of["trigger"]], vectors[of["base"]] if "base" in of else vectors[:0]
    figures, plain = evaluation.summary.trigger, evaluation.summary.base
    _, near = nearest(own, embedded)
    lora = LoraFigures(
        images=figures.images,
        consistency=figures.consistency.value,
        identity=figures.identity,
        quality=figures.quality,
        artefacts=figures.artefacts.value,
        vendi=figures.diversity,
        distance=mean_pairwise_distance(own),
        memorised=float(near_duplicates(near, setup.duplicates).mean()) if len(near) else 0.0,
        seeds=_between_seeds(table, vectors),
        base_vendi=plain.diversity if plain else math.nan,
        base_distance=mean_pairwise_distance(base),
        base_artefacts=plain.artefacts.value if plain else math.nan,
        base_quality=plain.quality if plain else math.nan,
    )
    origin = read_origin(evaluation.metadata)
    making = _making(evaluation, setup, training.images, history)
    return Symptoms(training, lora, making, origin.settings, origin.base_model)


def _training_set(
    evaluation: Evaluation,
    dataset: Path,
    setup: Setup,
    store: FeatureStore,
    progress: Progress,
) -> tuple[TrainingSetFigures, NDArray[np.float32]]:
    from ..analysis.identities import robust_centroid

    found, identities, vectors = measured(
        ImageSet.from_folder(dataset, progress=progress), setup.analysers(store), progress
    )
    known = [vector for vector in identities if vector is not None]
    near = np.full(len(found), math.nan)
    if known:
        near = similarities(identities, robust_centroid(np.stack(known)))
    near = near[~np.isnan(near)]
    scores = found.table["quality"].cast(pl.Float64).fill_null(0.0).to_numpy()
    readable = np.linalg.norm(vectors, axis=1) > 0
    distance = nearest(vectors[readable], vectors[readable], same=True)[1]
    rows = read_metadata(dataset)
    names = {Path(path).name for path in found.table["path"]}
    clusters = {row.get("cluster") for name, row in rows.items() if name in names} - {None}
    return (
        TrainingSetFigures(
            images=len(found),
            quality=float(scores.mean()) if len(scores) else math.nan,
            low=int((scores < LOW_QUALITY).sum()),
            strangers=float((near < evaluation.threshold.value).mean()) if len(near) else 0.0,
            alike=float(near_duplicates(distance, setup.duplicates).mean()) if len(found) else 0.0,
            vendi=vendi_score(vectors[readable]),
            distance=mean_pairwise_distance(vectors[readable]),
            clusters=len(clusters),
            captions=len(set(read_captions(dataset))),
        ),
        vectors[readable],
    )


def _between_seeds(table: pl.DataFrame, vectors: NDArray[np.float32]) -> float:
    """Return the mean cosine of images of one prompt with different seeds."""
    rows = table.with_row_index().filter(pl.col("series").is_in(["trigger", "grid"]))
    found = [
        1.0 - mean_pairwise_distance(vectors[part["index"].to_numpy()])
        for part in rows.partition_by("prompt", maintain_order=True)
        if part.height > 1
    ]
    return float(np.mean(found)) if found else math.nan


def _making(
    evaluation: Evaluation, setup: Setup, images: int, history: pl.DataFrame | None
) -> Making:
    origin = read_origin(evaluation.metadata)
    options = origin.settings
    still, rising = _end_of(history)
    batch = options.get("batch_size", 1) * options.get("accumulation", 1)
    passes = None if not (origin.steps and images) else origin.steps * batch / images
    return Making(
        rank=origin.rank,
        learning_rate=options.get("learning_rate"),
        steps=origin.steps,
        passes=passes,
        dropout=options.get("dropout"),
        still_falling=still,
        rising=rising,
        sampling_steps=setup.sampling.get("steps"),
        guidance=setup.sampling.get("guidance"),
        dtype=setup.sampling.get("dtype"),
    )


def _end_of(history: pl.DataFrame | None) -> tuple[bool | None, float | None]:
    """Say of a validation loss whether it fell to the end, and by what share it rose again."""
    from ..training.loop.validation import convergence

    rows = history.drop_nulls("validation_loss") if history is not None else None
    if rows is None or rows.height < 3:
        return None, None
    losses = rows["validation_loss"].to_list()
    course = convergence(rows["epoch"].to_list(), losses)
    best = min(losses)
    return course is not None and not course.settled, (losses[-1] - best) / best


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
