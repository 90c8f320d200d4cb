"""core's progress on ComfyUI's progress bar; the bar also carries the user's Cancel."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils

_PREVIEW_SIDE = 512


class NodeProgress:
    """Shows a stage on the node that runs, and raises when the user has pressed Cancel."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None
        self._done = 0
        self._total = 0

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""
        self._done, self._total = 0, max(1, total)
        self._bar = comfy.utils.ProgressBar(self._total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done."""
        self._done += n
        self._show(None)

    def finish(self) -> None:
        """The stage is over."""

    def image(self, image: Any) -> None:
        """Show a PIL image on the node."""
        self._show(("JPEG", image, _PREVIEW_SIDE))

    def tensor(self, image: Any) -> None:
        """Show the first image of an IMAGE on the node, in its own size."""
        from PIL import Image

        from .images import to_bytes

        first = Image.fromarray(to_bytes(image[:1])[0])
        self._show(("JPEG", first, max(first.size)))

    def _show(self, preview: Any) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is not None:
            self._bar.update_absolute(self._done, self._total, preview)
