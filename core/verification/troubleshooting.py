"""Troubleshooting a LoRA file: make its images, take its figures, say what is wrong and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from .. import atomic
from ..dataset.facts import RECIPE_FILE
from ..defaults import TEST_PROMPTS
from ..errors import CuratorError
from ..evaluation.lora_files import STORE_FILE, evaluate
from ..evaluation.result import Evaluation
from ..evaluation.setup import Setup
from ..evaluation.summary import Targets
from ..features import FeatureStore
from ..lora.file import CheckpointError
from ..plain_files import plain_text
from ..progress import Progress, silent
from ..project import tables
from ..training.result import HISTORY
from .commands import Retold
from .diagnosis import Diagnosis, diagnose, uncovered
from .samples import samples_folder, setup_of
from .symptoms import Symptoms, examine
from .training import Trained, read_trained

RESULT_FILE = "diagnosis.json"


@dataclass(frozen=True)
class Troubleshooting:
    """What is wrong with a LoRA, and what was measured.

    Attributes:
        evaluation: Its images.
        symptoms: Every figure.
        diagnoses: The issues that it has; empty for a healthy one.
    """

    evaluation: Evaluation
    symptoms: Symptoms
    diagnoses: tuple[Diagnosis, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether it has none of the issues."""
        return not self.diagnoses

    def sentences(self) -> list[str]:
        """Return what is wrong, and the findings of the evaluation that no issue explains."""
        told = [text for diagnosis in self.diagnoses for text in diagnosis.sentences()]
        return told + [str(f) for f in uncovered(self.evaluation.findings, self.diagnoses)]

    def as_mapping(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        return {
            "file": str(self.evaluation.file),
            "healthy": self.is_healthy,
            "diagnoses": [diagnosis.as_mapping() for diagnosis in self.diagnoses],
            "figures": self.symptoms.as_mapping(),
            "identity_threshold": self.evaluation.threshold.as_mapping(),
        }


def troubleshoot(
    lora: Path | str,
    dataset: Path | str,
    *,
    base: str | None = None,
    faces: str | None = None,
    clip: tuple[str, str] | None = None,
    work: Path | None = None,
    count: int = TEST_PROMPTS,
    output: Path | None = None,
    setup: Setup | None = None,
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> Troubleshooting:
    """Make images with a LoRA file, measure them beside its training images, and diagnose it.

    The images are those that ``check_readiness`` makes; what is there is not made again. The result
    is also written beside them, as ``diagnosis.json``.

    Args:
        lora: The LoRA file.
        dataset: What it was trained on.
        base: The base model, in place of the dataset's own.
        faces: Face pack, in place of the dataset's own.
        clip: open_clip model and weights, in place of the dataset's own.
        work: Folder of the training's notes, if it is not ``NAME.work`` beside the file.
        count: How many new prompts.
        output: Where the images go; ``NAME.verification`` beside the file unless given.
        setup: How the images are made, in place of all of that.
        targets: What the figures should reach.
        progress: Watches.

    Raises:
        CheckpointError: The file can't be read.
        CuratorError: Something that the message says how to mend.
    """
    file, place = Path(lora).expanduser(), Path(dataset).expanduser()
    trained = read_trained(file, work)
    if trained.content is None:
        raise CheckpointError(trained.problem)
    made_with = setup or setup_of(
        place, trained.trigger, base=base, faces=faces, clip=clip, count=count
    )
    root = output or samples_folder(file)
    with FeatureStore(root / STORE_FILE) as store:
        [evaluation] = evaluate(
            [file], place, made_with, root, targets=targets, store=store,
            metadata={file: dict(trained.content.metadata)}, progress=progress,
        )  # fmt: skip
        found = of_evaluation(
            evaluation, place, made_with, store, root, trained=trained, targets=targets,
            progress=progress,
        )  # fmt: skip
    text = json.dumps(found.as_mapping(), indent=1, ensure_ascii=False, allow_nan=False)
    atomic.write_text(evaluation.folder / RESULT_FILE, text + "\n")
    return found


def of_evaluation(
    evaluation: Evaluation,
    dataset: Path,
    setup: Setup,
    store: FeatureStore,
    root: Path,
    *,
    trained: Trained | None = None,
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> Troubleshooting:
    """Diagnose a LoRA that has been evaluated; nothing is measured again.

    Args:
        evaluation: Of the LoRA.
        dataset: What it was trained on.
        setup: How it was evaluated.
        store: Where the evaluation kept its measurements.
        root: The folder that the evaluation's paths start from.
        trained: What is known of its training.
        targets: What the figures should reach.
        progress: Watches.
    """
    symptoms = examine(
        evaluation, dataset, setup, store, root,
        history=_history(trained.outcome if trained else {}), progress=progress,
    )  # fmt: skip
    base = symptoms.base_model or str(setup.model)
    retold = Retold(dataset, evaluation.file, base, symptoms.settings, _recipe(dataset))
    return Troubleshooting(evaluation, symptoms, diagnose(symptoms, retold, targets))


def _history(outcome: Mapping[str, Any]) -> pl.DataFrame | None:
    try:
        return pl.DataFrame(outcome["history"], schema=dict(HISTORY))
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError):
        return None


def _recipe(dataset: Path) -> dict[str, Any]:
    try:
        return tables(plain_text(dataset / RECIPE_FILE), RECIPE_FILE)
    except (OSError, UnicodeDecodeError, CuratorError):
        return {}
