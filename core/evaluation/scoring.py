"""The score of a training's checkpoints: what a training asks for to choose by evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import Progress, silent
from .lora_files import evaluate
from .setup import Setup

if TYPE_CHECKING:
    from ..training.job import Checkpoint, Score


def scorer(
    dataset: Path | str, setup: Setup, output: Path | str, *, progress: Progress = silent
) -> Score:
    """Return a function that evaluates a checkpoint's file and gives its score.

    It is what ``train_lora(…, score=scorer(…))`` takes. The base model's images are made once;
    every file gets its folder in ``output``, as with :func:`.lora_files.evaluate`.

    Args:
        dataset: Folder of the training images.
        setup: Prompts, models and thresholds.
        output: Folder to write to.
        progress: Watches.
    """

    def score(checkpoint: Checkpoint) -> float:
        (evaluation,) = evaluate([checkpoint.file], dataset, setup, output, progress=progress)
        return evaluation.summary.score

    return score
