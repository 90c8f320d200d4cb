"""One run of an experiment: train an arm, evaluate its LoRA, keep the result."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import atomic
from ..damages import note_damage
from ..evaluation.baseline import Baseline
from ..evaluation.images import Reference
from ..evaluation.lora_files import evaluate_file
from ..hashing import sealed, unsealed
from ..json_text import parse
from ..lora.header import LoraCard
from ..parquet import parquet_bytes
from ..plain_files import plain_text
from ..progress import Progress, silent
from ..training.data.examples import Example
from ..training.loop.loop import train
from ..training.loop.state import load_weights
from ..training.outputs.writing import write_lora
from ..training.result import TrainingResult
from ..training.settings import TrainingSettings
from ..training.trainer import placed_adapters
from .curves import steps_at, steps_to
from .plan import require_files

if TYPE_CHECKING:
    from ..features import FeatureStore
    from ..training.denoisers.diffusers import DiffusersDenoiser

RESULT_FILE, LORA_FILE, HISTORY_FILE = "result.json", "lora.safetensors", "history.parquet"


_KEYS = {"arm", "seed", "pictures", "seconds"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedInputs:
    """What all runs share.

    Attributes:
        denoiser: The frozen model.
        baseline: Base images, thresholds and prompts of the evaluation.
        validation: The common validation set.
        store: Where latents are kept.
        weights: ``best`` or ``last``.
        prior: Prior-preservation images, the same in every arm.
    """

    denoiser: DiffusersDenoiser
    baseline: Baseline
    validation: Sequence[Example]
    store: FeatureStore
    weights: str
    prior: Sequence[Example] = ()


def known_result(folder: Path) -> dict[str, Any] | None:
    """Return what a run has come to, if it is done."""
    path = folder / RESULT_FILE
    try:
        value = parse(plain_text(path))
        if not isinstance(value, dict) or not value.keys() >= _KEYS:
            raise ValueError("it is no result of a run")
        value = unsealed(value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        note_damage("results of runs", path, "the run is made again", once=True)
        log.warning("%s is damaged (%s): the run is made again.", path, error)
        return None
    return value


def run_arm(
    shared: SharedInputs,
    arm: str,
    examples: Sequence[Example],
    settings: TrainingSettings,
    folder: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train on an arm's images, evaluate, write ``result.json``; or return what is there.

    A run that was killed while it trained goes on from its last state.

    Args:
        shared: What all runs share.
        arm: Its name.
        examples: Its images.
        settings: Of the training; its seed is the run's.
        folder: Of the run.
        progress: Watches.
    """
    known = known_result(folder)
    if known is not None:
        return known
    denoiser = shared.denoiser
    file = folder / LORA_FILE
    with placed_adapters(denoiser, settings) as adapters:
        started = time.monotonic()
        result = train(
            denoiser,
            adapters.named_parameters(),
            [*examples, *shared.prior],
            settings,
            folder / "training",
            store=shared.store,
            validation=shared.validation,
            progress=progress,
        )
        load_weights(
            result.last if shared.weights == "last" else result.best, adapters.named_parameters()
        )
        trained = time.monotonic() - started
        last = result.history["validation_loss"].to_list()[-1]
        card = LoraCard(
            f"{arm}-{settings.seed}",
            denoiser.architecture,
            denoiser.prediction,
            trigger_phrase=shared.baseline.setup.character.trigger,
            images=len(examples),
            steps=result.steps,
            validation_loss=last if shared.weights == "last" else result.best_loss,
            seed=settings.seed,
            settings=settings.recorded(),
            targets=adapters.placements["denoiser"].kinds,
        )
        write_lora(file, adapters, denoiser, card)
    atomic.write_bytes(folder / HISTORY_FILE, parquet_bytes(result.history))
    started = time.monotonic()
    names = {example.path.name for example in examples}
    baseline = replace(shared.baseline, reference=of_images(shared.baseline.reference, names))
    evaluation = evaluate_file(baseline, file, folder / "evaluation", progress=progress)
    shown = [baseline.root / path for path in evaluation.table["path"]]  # the base's as well
    require_files([file, folder / HISTORY_FILE, *shown])
    value = {
        "arm": arm,
        "seed": settings.seed,
        "pictures": len(examples),
        **training_figures(result),
        **evaluation.summary.as_mapping(),
        "seconds": {"training": trained, "evaluation": time.monotonic() - started},
    }
    text = json.dumps(sealed(value), indent=1, allow_nan=False)
    atomic.write_text(folder / RESULT_FILE, text + "\n")
    return value


def training_figures(result: TrainingResult) -> dict[str, Any]:
    """Return what a training has come to, as JSON knows it."""
    rows = result.history.drop_nulls("validation_loss")
    course = [
        (int(step), float(loss))
        for step, loss in zip(rows["step"], rows["validation_loss"], strict=True)
    ]
    found = result.convergence
    return {
        "steps": result.steps,
        "epochs": int(result.history["epoch"].to_list()[-1]),
        "stopped": result.stopped,
        "converged_epoch": found.epoch if found else None,
        "converged_step": steps_at(result.history, found.epoch) if found else None,
        "settled": found.settled if found else None,
        "start": course[0][1] if course else None,
        "plateau": found.plateau if found else None,
        "best": result.best_loss,
        "last": course[-1][1] if course else None,
        "course": course,
    }


def steps_to_level(results: Sequence[Mapping[str, Any]], level: float) -> list[int | None]:
    """Return when the validation loss of each run first fell to a level; ``None`` if it never did.

    The course is smoothed as for the epoch of convergence.
    """
    return [steps_to([tuple(point) for point in result["course"]], level) for result in results]


def of_images(reference: Reference, names: set[str]) -> Reference:
    """Return a reference whose training images are only those of the given names."""
    rows = [row for row, name in enumerate(reference.names) if Path(name).name in names]
    return replace(
        reference,
        embeddings=reference.embeddings[rows],
        names=tuple(reference.names[row] for row in rows),
    )
