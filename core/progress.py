"""How a long function tells what it is doing, without knowing who watches."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A watcher of one stage at a time.

    ``advance`` may raise (a user's Cancel, Ctrl-C): the function that called it leaves its files
    in a state from which a later run continues.
    """

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done; ``note`` says what is being done now."""

    def finish(self) -> None:
        """The stage is over."""


class _Silent:
    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def finish(self) -> None:
        pass


silent: Progress = _Silent()
"""A watcher that shows nothing."""
