"""One run's state between two steps, and everything that changes it."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...counts import how_many, worded
from ...generation import conditions
from ..data.order import Batch
from ..data.prepare import TrainingData
from ..denoisers.protocol import Denoiser
from ..result import (
    DivergedError,
    EpochReport,
    StepReport,
    StopReason,
    TrainingResult,
    history_table,
)
from ..settings import TrainingSettings
from .ema import AveragedWeights, copy_into, in_place
from .gradients import add_gradients
from .optimizers import make_optimizer, set_rate, smoothed
from .origin import check_origin, origin_of
from .processes import Processes
from .schedule import lr_factor
from .state import (
    StateMismatchError,
    load_tensors,
    load_weights,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)
from .validation import Patience, course_of

logger = logging.getLogger(__name__)

STATE, BEST, LAST = "state.safetensors", "best.safetensors", "last.safetensors"


class Diverged(Exception):  # noqa: N818
    """A loss or a gradient is no number; the step was not taken."""


@dataclasses.dataclass
class _Sums:
    """What the present epoch has come to so far."""

    loss: float = 0.0
    norm: float = 0.0
    pictures: int = 0
    steps: int = 0
    seconds: float = 0.0


class TrainingRun:
    """Everything that a state file holds, and the steps that change it.

    Attributes:
        epoch: Whole epochs so far.
        position: Steps taken of the epoch after those.
        step: Steps taken in all.
        history: A report an epoch, epoch 0 first.
        stopped: Why the run is over; ``None`` while it is not.
        is_whole: Whether the parts of the state belong to one moment.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parameters: Mapping[str, nn.Parameter],
        data: TrainingData,
        settings: TrainingSettings,
        folder: Path,
        processes: Processes | None = None,
        start: str | None = None,
    ) -> None:
        self.denoiser, self.parameters, self.data = denoiser, dict(parameters), data
        self.settings, self.folder = settings, folder
        self.processes = processes or Processes()
        self.device = next(iter(self.parameters.values())).device
        text = [p for module in denoiser.text_modules().values() for p in module.parameters()]
        self.optimizer = make_optimizer(self.parameters, settings, text)
        self.average: AveragedWeights | None = None
        if settings.ema_decay is not None:
            self.average = AveragedWeights(self.parameters, settings.ema_decay)
        self.epoch = self.position = self.step = 0
        self.history: list[EpochReport] = []
        self.stopped: StopReason | None = None
        self.is_whole = True
        self.total_steps = settings.steps or settings.epochs * len(data.steps(1, settings))
        self._message = ""
        self._best: tuple[int, float] | None = None
        self._patience = Patience(settings.patience, settings.min_improvement)
        self._sums = _Sums()
        self._origin = origin_of(denoiser, self.parameters, data, settings, start)
        self._conditions = conditions.current(self.device.type)

    def take_step(self, batches: Sequence[Batch]) -> StepReport:
        """Take one optimizer step.

        Raises:
            Diverged: The loss or the gradient is no number; the weights are as they were.
        """
        started = time.monotonic()
        settings = self.settings
        factor = lr_factor(self.step, self.total_steps, settings.schedule, settings.warm_up)
        set_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        moment = (self.epoch + 1, self.position)
        part = add_gradients(
            self.denoiser, self.data, batches, settings, self.device, moment, self.processes
        )
        loss = self.processes.add_gradients(self.parameters.values(), part)
        limit = math.inf if settings.clip_norm is None else settings.clip_norm
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise Diverged(f"The {what} became {loss if what == 'loss' else norm}")
        self.is_whole = False
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        self.position += 1
        pictures = sum(len(batch) for batch in batches)
        seconds = time.monotonic() - started
        sums = self._sums
        self._sums = _Sums(
            sums.loss + loss * pictures,
            sums.norm + norm,
            sums.pictures + pictures,
            sums.steps + 1,
            sums.seconds + seconds,
        )
        self.is_whole = True
        return StepReport(
            self.epoch + 1, self.step, self.total_steps, loss, settings.learning_rate * factor,
            norm, pictures, seconds,
        )  # fmt: skip

    @property
    def is_over(self) -> bool:
        """Whether as many steps or epochs are done as the settings say."""
        if self.settings.steps is not None:
            return self.step >= self.settings.steps
        return self.epoch >= self.settings.epochs

    def finish_epoch(self, validation: float | None) -> EpochReport:
        """Close an epoch: record it, keep the weights if they are the best, save the state.

        Called before the first step as well, for epoch 0.

        Args:
            validation: Validation loss of the present weights, if it was measured.

        Raises:
            Diverged: The validation loss is no number.
        """
        if validation is not None and not math.isfinite(validation):
            raise Diverged(f"The validation loss became {validation}")
        self.is_whole = False
        epoch = self.epoch + 1 if self.history else 0
        sums = self._sums
        rate = self.optimizer.param_groups[0]["lr"] if sums.steps else None
        report = EpochReport(
            epoch,
            self.step,
            sums.loss / sums.pictures if sums.pictures else None,
            validation,
            rate,
            sums.norm / sums.steps if sums.steps else None,
            sums.pictures,
            sums.seconds,
        )
        self.history.append(report)
        self.epoch, self.position, self._sums = epoch, 0, _Sums()
        if validation is not None:
            over = self._patience.is_over(validation)
            if epoch and (self._best is None or validation < self._best[1]):
                self._best = (epoch, validation)
                self._write_weights(self.folder / BEST)
            if over and epoch:
                self.stopped = "plateau"
                self._message = (
                    "Stopped at the plateau: no lower validation loss for "
                    f"{how_many(self._patience.waited, 'validation')}."
                )
        if self.stopped is None and epoch and self.is_over:
            count, noun = (self.step, "step") if self.settings.steps else (epoch, "epoch")
            all_are = worded(count, f"1 {noun} is", f"All {how_many(count, noun)} are")
            self.stopped, self._message = "completed", f"{all_are} done."
        self.is_whole = True
        if self.stopped is not None:
            self._write_weights(self.folder / LAST)
        self.save()
        return report

    def diverge(self, reason: Diverged) -> None:
        """End the run at the last good weights.

        Raises:
            DivergedError: There are none: not one epoch was whole.
        """
        where = f"{reason} in epoch {self.epoch + 1}, step {self.step + 1}"
        advice = "Lower the learning rate, clip gradients (clip_norm), or train in 32 bits."
        if not self.epoch:
            raise DivergedError(f"{where}, before one epoch was whole; nothing was kept. {advice}")
        self.stopped = "diverged"
        kept = self._best[0] if self._best else self.epoch
        self._message = f"{where}. The weights of epoch {kept} are kept. {advice}"
        self.processes.wait()
        tensors, facts = load_tensors(self.folder / STATE)
        self._restore_weights(tensors)
        unpack_optimizer(self.optimizer, tensors, facts["optimizer"])
        self._write_weights(self.folder / LAST)

    @contextmanager
    def kept_in_place(self) -> Iterator[None]:
        """Put what a checkpoint would hold in the place of the weights for a while."""
        kept = self._kept()
        if kept is self.parameters:
            yield
            return
        with in_place(self.parameters, kept):
            yield

    def keep_checkpoint(self) -> Path:
        """Write the present weights to a file of their own; return its path."""
        path = self.folder / f"epoch-{self.epoch:04d}.safetensors"
        self._write_weights(path)
        return path

    def result(self) -> TrainingResult:
        """Put the best weights into the parameters and say what the run has come to."""
        self.processes.wait()
        best = self.folder / (BEST if self._best else LAST)
        load_weights(best, self.parameters)
        history = history_table(self.history)
        return TrainingResult(
            history=history,
            stopped=self.stopped or "completed",
            message=self._message,
            steps=self.step,
            best_epoch=self._best[0] if self._best else self.epoch,
            best_loss=self._best[1] if self._best else None,
            best=best,
            last=self.folder / LAST,
            convergence=course_of(history, self.settings),
            skipped=self.data.skipped,
            held_out=tuple(e.hash for e in dict.fromkeys(e for e, _ in self.data.validation)),
            resolutions=self.data.resolutions(self.settings),
        )

    def save(self) -> None:
        """Write the state.

        Raises:
            StateWriteError: It cannot be written; the state before stays.
        """
        if not self.processes.is_first:
            return
        tensors, plain = pack_optimizer(self.optimizer)
        tensors |= {f"parameter.{name}": p for name, p in self.parameters.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": v for name, v in self.average.values.items()}
        facts = {
            "origin": self._origin,
            "conditions": self._conditions,
            "optimizer": plain,
            "epoch": self.epoch,
            "position": self.position,
            "step": self.step,
            "history": [dataclasses.asdict(report) for report in self.history],
            "sums": dataclasses.asdict(self._sums),
            "best": self._best,
            "patience": [self._patience.reference, self._patience.waited],
            "stopped": self.stopped,
            "message": self._message,
        }
        save_tensors(self.folder / STATE, tensors, facts)

    def resume(self) -> bool:
        """Go on from the folder's state; return whether there was one.

        Raises:
            StateMismatchError: It is damaged, or of a run with other images, settings or model.
        """
        path = self.folder / STATE
        if not path.exists():
            return False
        tensors, facts = load_tensors(path)
        try:
            self._take_up(path, tensors, facts)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise StateMismatchError(
                f"{path} is not whole ({type(error).__name__}: {error}). Delete it, or choose "
                "another folder, to start from the beginning.",
                path,
            ) from error
        logger.info("Going on from epoch %d, step %d: %s.", self.epoch, self.step, path)
        return True

    def _take_up(self, path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        check_origin(path, facts["origin"], self._origin)
        for difference in conditions.differences(facts["conditions"], self._conditions):
            logger.warning(
                "Going on under other conditions, so the last bits may differ: %s", difference
            )
        self._restore_weights(tensors)
        unpack_optimizer(self.optimizer, tensors, facts["optimizer"])
        self.epoch, self.position, self.step = facts["epoch"], facts["position"], facts["step"]
        self.history = [EpochReport(**report) for report in facts["history"]]
        self._sums = _Sums(**facts["sums"])
        self._best = tuple(facts["best"]) if facts["best"] else None
        self._patience.reference, self._patience.waited = facts["patience"]
        self.stopped, self._message = facts["stopped"], facts["message"]
        if self.stopped == "completed" and not self.is_over:
            self.stopped, self._message = None, ""

    def _restore_weights(self, tensors: Mapping[str, Tensor]) -> None:
        copy_into(self.parameters, {n: tensors[f"parameter.{n}"] for n in self.parameters})
        if self.average is not None:
            for name, value in self.average.values.items():
                value.copy_(tensors[f"average.{name}"])

    def _kept(self) -> Mapping[str, Tensor]:
        """Return the weights that count: the average where there is one."""
        if self.average is not None:
            return self.average.values
        return smoothed(self.optimizer, self.parameters) or self.parameters

    def _write_weights(self, path: Path) -> None:
        if not self.processes.is_first:
            return
        loss = self.history[-1].validation_loss
        save_tensors(path, self._kept(), {"epoch": self.epoch, "validation_loss": loss})
