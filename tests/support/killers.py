"""What kills a worker in the middle of its work, once: picklable."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class KillingBackend:
    """A back end of which the first batch in a worker kills that, once.

    Attributes:
        backend: Makes the images.
        mark: The file that says that it was done.
    """

    backend: Any
    mark: Path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # as pickle asks
            raise AttributeError(name)
        return getattr(self.backend, name)

    def sample(self, requests: Any, on_step: Any = None) -> Any:
        """Make the images, then die before they are written."""
        pixels = self.backend.sample(requests, on_step)
        if multiprocessing.parent_process() is not None and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pixels


@dataclass(frozen=True)
class KillsOnce:
    """A condition that is always met; the ``after``-th time in a worker, it kills that once.

    Attributes:
        mark: The file that says that it was done.
        after: In which call.
    """

    mark: Path
    after: int = 5

    def __call__(self, *known: Any) -> bool:
        """Count calls by process, and kill."""
        if multiprocessing.parent_process() is not None and not self.mark.exists():
            counted = self.mark.with_name(f"{self.mark.name}-{os.getpid()}")
            counted.open("a").write("x")
            if counted.stat().st_size >= self.after:
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return True
