"""What the terminal shows while a LoRA trains: the epochs so far, and a bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table

from .console import ConsoleProgress

if TYPE_CHECKING:
    from ..training.result import Callbacks, EpochReport, StepReport

_ROWS = 10
_SMOOTH = 0.9


class TrainingView(ConsoleProgress):
    """Shows a table of the last epochs above the bars, and speed and memory beside them.

    Where the output is not a terminal, the same figures are written as lines.
    """

    def __init__(self, console: Console, interval: float = 15.0) -> None:
        super().__init__(console, interval, self.table)
        self._reports: Sequence[EpochReport] = ()
        self._speed: float | None = None
        self._training = False

    def callbacks(self) -> Callbacks:
        """Return what the training tells this view."""
        from ..training.result import Callbacks

        return Callbacks(on_step=self._on_step, on_history=self._on_history)

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""
        super().start(stage, total)  # which finishes what came before
        self._training = stage == "Training"

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done."""
        super().advance(n, self._note(note) if self._training else note)

    def finish(self) -> None:
        """The stage is over."""
        if self._training and self._live and (table := self.table()) is not None:
            self._training = False
            self._console.print(table)
        self._training = False
        super().finish()

    def table(self) -> RenderableType | None:
        """Return the last epochs as a table; ``None`` while nothing trains."""
        if not (self._training and self._reports):
            return None
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("epoch", "step", "loss", "validation loss", "images/s", "seconds"):
            table.add_column(name, justify="right")
        measured = [r for r in self._reports if r.validation_loss is not None and r.epoch]
        best = min(measured, key=lambda r: r.validation_loss or 0.0).epoch if measured else None
        for report in self._reports[-_ROWS:]:
            table.add_row(
                str(report.epoch),
                str(report.step),
                _number(report.loss),
                _number(report.validation_loss) + (" *" if report.epoch == best else "  "),
                f"{report.pictures / report.seconds:.1f}" if report.seconds else "",
                f"{report.seconds:.1f}" if report.seconds else "",
            )
        return table

    def _on_step(self, report: StepReport) -> None:
        speed = report.pictures / report.seconds if report.seconds else 0.0
        before = speed if self._speed is None else self._speed
        self._speed = _SMOOTH * before + (1 - _SMOOTH) * speed

    def _on_history(self, reports: Sequence[EpochReport]) -> None:
        self._reports = reports

    def _note(self, note: str) -> str:
        losses = [r.validation_loss for r in self._reports if r.validation_loss is not None]
        parts = [note, f"validation {losses[-1]:.4f}" if losses else ""]
        if self._speed is not None:
            parts.append(f"{self._speed:.1f} images/s")
        parts.append(memory())
        return ", ".join(filter(None, parts))


def memory() -> str:
    """Return how much memory the training has needed at most, in words; empty if unknown."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory"
    try:
        import resource
        import sys
    except ImportError:  # on Windows
        return ""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{largest * (1 if sys.platform == 'darwin' else 1024) / 2**30:.1f} GiB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
