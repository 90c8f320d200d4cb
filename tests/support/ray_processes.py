"""The processes that Ray runs for one of ours."""

from __future__ import annotations

import os
import signal

import psutil


def ray_workers(pid: int | None = None) -> list[int]:
    """Return the workers that a process has, ours unless given."""
    found = []
    for child in psutil.Process(pid or os.getpid()).children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if title.startswith("ray::RayWorker"):
            found.append(child.pid)
    return found


class KillsAWorker:
    """Watches a stage, and kills a worker of Ray once, in the middle."""

    def __init__(self, after: int) -> None:
        self.total = self.done = self.killed = 0
        self._after = after

    def start(self, stage: str, total: int) -> None:
        self.total += total

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n
        if self.done >= self._after and not self.killed:
            self.killed = ray_workers()[0]
            os.kill(self.killed, signal.SIGKILL)

    def finish(self) -> None:
        pass
