"""What the node shows while it trains: a bar, the loss in words, and the plot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ui.progress import NodeProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.training.result import Callbacks, EpochReport

_INTERVAL = 0.5
"""Seconds from one text to the next, at least: a small model takes many steps a second."""


class TrainingView(NodeProgress):
    """Shows a training on the node that runs.

    Args:
        node: The node's id in the queued graph; without one there is no text.
        plot: The image of the losses, drawn by the trainer.
    """

    def __init__(self, node: str | None, plot: Path) -> None:
        super().__init__()
        self._node, self._plot = node, plot
        self._said = 0.0
        self._stage = ""
        self._validation: float | None = None

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""
        super().start(stage, total)
        self._stage = stage
        self._say(stage)

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done; ``note`` says the epoch and the loss."""
        super().advance(n, note)
        if self._done >= self._total or time.monotonic() - self._said >= _INTERVAL:
            loss = "" if self._validation is None else f", validation loss {self._validation:.4f}"
            self._say(f"{self._stage}: {self._done} of {self._total}, {note}{loss}")

    def callbacks(self) -> Callbacks:
        """Return who shows the course of the losses."""
        from ...core.training.result import Callbacks

        return Callbacks(on_history=self._show_plot)

    def _show_plot(self, reports: Sequence[EpochReport]) -> None:
        from PIL import Image

        measured = [r.validation_loss for r in reports if r.validation_loss is not None]
        self._validation = measured[-1] if measured else None
        if self._plot.is_file():
            with Image.open(self._plot, formats=("PNG",)) as plot:
                self.image(plot.convert("RGB"))

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._node is None:
            return
        from server import PromptServer  # type: ignore[import-not-found]

        server: Any = getattr(PromptServer, "instance", None)
        if server is not None and hasattr(server, "send_progress_text"):
            server.send_progress_text(text, self._node)
