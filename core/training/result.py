"""What a training run has to say: while it goes, and in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ..errors import CuratorError
from .data.examples import Skipped
from .loop.validation import Convergence

StopReason = Literal["completed", "plateau", "diverged"]

HISTORY: Mapping[str, pl.DataType] = {
    "epoch": pl.Int32(),
    "step": pl.Int64(),
    "loss": pl.Float64(),
    "validation_loss": pl.Float64(),
    "learning_rate": pl.Float64(),
    "gradient_norm": pl.Float64(),
    "pictures": pl.Int64(),
    "seconds": pl.Float64(),
}
"""Columns of the history; epoch 0 is the model before training."""


class DivergedError(CuratorError):
    """The loss is no number before there is anything worth keeping."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step."""

    epoch: int
    step: int
    """Steps so far in the whole run."""
    total_steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    pictures: int
    """Rows of this step."""
    seconds: float


@dataclass(frozen=True)
class EpochReport:
    """One epoch; ``None`` is what was not measured."""

    epoch: int
    step: int
    """Optimizer steps so far."""
    loss: float | None
    """Mean training loss of the epoch's images."""
    validation_loss: float | None
    learning_rate: float | None
    gradient_norm: float | None
    """Mean norm before clipping."""
    pictures: int
    seconds: float
    """Spent on the epoch's steps."""


@dataclass(frozen=True)
class Callbacks:
    """Who is told what; an exception in one of them stops the run as Cancel does.

    Attributes:
        on_step: After every optimizer step.
        on_epoch: After every epoch, epoch 0 before training included; its state is then saved.
        on_history: At the same time, with the reports of all epochs so far, those before a kill
            included.
        on_sample: Before training and every ``sample_every`` epochs, with the weights in place that
            would be kept (the averaged ones, if any) and the model in evaluation mode. Random
            numbers that it draws change nothing in the run.
        on_checkpoint: A file of weights was kept: its epoch and path.
    """

    on_step: Callable[[StepReport], None] | None = None
    on_epoch: Callable[[EpochReport], None] | None = None
    on_history: Callable[[Sequence[EpochReport]], None] | None = None
    on_sample: Callable[[int], object] | None = None
    on_checkpoint: Callable[[int, Path], None] | None = None


def joined(*several: Callbacks | None) -> Callbacks:
    """Return callbacks that tell each of several, in this order."""

    def both(name: str) -> Callable[..., None] | None:
        told = [getattr(one, name) for one in several if one is not None]
        told = [call for call in told if call is not None]
        if not told:
            return None

        def tell(*what: Any) -> None:
            for call in told:
                call(*what)

        return tell

    return Callbacks(**{field.name: both(field.name) for field in fields(Callbacks)})


@dataclass(frozen=True)
class TrainingResult:
    """What a run has come to. The parameters hold the weights of ``best``.

    Attributes:
        history: A row an epoch, with the columns of :data:`HISTORY`.
        stopped: Why the run ended.
        message: The same in words.
        steps: Optimizer steps in all.
        best_epoch: The epoch with the lowest validation loss; without validation the last.
        best_loss: Its validation loss.
        best: Its weights, by the names of the parameters.
        last: The weights of the last whole epoch.
        convergence: When the validation loss had fallen as good as it ever did.
        skipped: Images that were left out, with reasons.
        held_out: Content hashes of the images it was validated with.
        resolutions: How many images were trained at each resolution, in words, where there are
            several.
        memory: What was done to save memory, in words.
    """

    history: pl.DataFrame
    stopped: StopReason
    message: str
    steps: int
    best_epoch: int
    best_loss: float | None
    best: Path
    last: Path
    convergence: Convergence | None
    skipped: tuple[Skipped, ...]
    held_out: tuple[str, ...]
    resolutions: str = ""
    memory: str = ""

    @property
    def convergence_epoch(self) -> int | None:
        """The epoch of convergence, if the validation loss fell at all."""
        return self.convergence.epoch if self.convergence else None


def history_table(reports: Sequence[EpochReport]) -> pl.DataFrame:
    """Return reports as a table."""
    columns = {name: [getattr(report, name) for report in reports] for name in HISTORY}
    return pl.DataFrame(columns, schema=dict(HISTORY))
