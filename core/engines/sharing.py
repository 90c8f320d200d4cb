"""Whether workers and their caller see the same files."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from pathlib import Path

from ..errors import CuratorError

PATIENCE = 60.0
"""Seconds after which what one machine has written in a network folder is seen by the others."""


class NotSharedError(CuratorError):
    """A worker and its caller do not see the same files."""

    def __init__(self, path: Path | str, there: str, not_there: str) -> None:
        super().__init__(
            f"{path} is seen {there}, and not {not_there}. Workers on other machines need the "
            "folders of images, of measurements and of results at the same paths: put them in a "
            "folder that all machines share (docs/cluster.md). What is done is kept."
        )


def unseen(paths: Iterable[Path | str]) -> tuple[str, ...]:
    """Return those that are not on this machine, each with its name."""
    return tuple(f"{path}\non {socket.gethostname()}" for path in paths if not Path(path).exists())


def check_seen(paths: Iterable[Path]) -> None:
    """Wait until files are here that workers on other machines have written.

    Raises:
        NotSharedError: They are not within :data:`PATIENCE`.
    """
    end = time.monotonic() + PATIENCE
    for path in paths:
        while not path.exists():
            if time.monotonic() > end:
                raise NotSharedError(path, "by the worker that wrote it", "here")
            time.sleep(0.2)


def check_unseen(told: Iterable[str]) -> None:
    """Compare what workers do not see with what is here.

    Args:
        told: What :func:`unseen` has returned there.

    Raises:
        NotSharedError: A file is here.
    """
    for one in told:
        path, _, where = one.rpartition("\n")
        if Path(path).exists():
            raise NotSharedError(path, "here", f"by the worker {where}")
