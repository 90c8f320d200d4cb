"""core's progress on ComfyUI's progress bar; the bar also carries the user's Cancel."""

from __future__ import annotations

import math
import time
from typing import Any

import comfy.model_management
import comfy.utils

from .live_image import show_while_running

_INTERVAL = 0.5
"""Seconds from one image to the next, at least: a small model makes many a second."""


class NodeProgress:
    """Shows a stage on the node that runs, and raises when the user has pressed Cancel."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None
        self._done = 0
        self._total = 0
        self._shown = -math.inf

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""
        self._done, self._total = 0, max(1, total)
        self._bar = comfy.utils.ProgressBar(self._total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done."""
        self._done += n
        self._show()

    def finish(self) -> None:
        """The stage is over."""

    def image(self, image: Any) -> None:
        """Show a PIL image on the node, unless it was given one a moment ago."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if now - self._shown >= _INTERVAL:
            self._shown = now
            show_while_running(image)

    def _show(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is not None:
            self._bar.update_absolute(self._done, self._total)
