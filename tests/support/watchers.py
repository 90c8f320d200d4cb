"""Watchers of a long run who stop it half-way."""

from __future__ import annotations


class Cancelled(Exception):
    """What a watcher raises who no longer wants the result."""


class CancelAfter:
    """Cancels once a run has advanced so often.

    Args:
        advances: How often; the last of them raises.
        stage: Count this stage alone; None counts all.
        error: What is raised; KeyboardInterrupt is what Ctrl-C does.
    """

    def __init__(
        self,
        advances: int,
        stage: str | None = None,
        error: type[BaseException] = Cancelled,
    ) -> None:
        self.left, self.counted, self.error = advances, stage, error
        self.stage = ""

    def start(self, stage: str, total: int) -> None:
        self.stage = stage

    def advance(self, n: int = 1, note: str = "") -> None:
        if self.counted in (None, self.stage):
            self.left -= n
            if self.left <= 0:
                raise self.error

    def finish(self) -> None:
        pass
