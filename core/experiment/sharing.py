"""Processes that share the folder of an experiment: every image is made by one of them.

Locks are held on files, so that a process that is killed holds none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..generation.backend import Backend
from ..generation.run import batches, generate
from ..imageset import ImageSet
from ..plan import Request
from ..progress import Progress, silent

LOCKS = ".locks"


class Make(Protocol):
    """Makes the images that are not there yet, as :func:`.generation.run.generate` does."""

    def __call__(
        self,
        plan: Sequence[Request],
        backend: Backend,
        output: Path | str,
        *,
        batch_size: int,
        progress: Progress = silent,
    ) -> ImageSet:
        """Make them."""


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time through the context; the others wait.

    Args:
        folder: What the processes share.
        name: Of what is done in the context, good for a file's name.
    """
    from filelock import FileLock

    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{name}.lock"):
        yield


def together(root: Path, shard: tuple[int, int]) -> Make:
    """Return a function that makes images together with the other processes.

    Each begins at a place of its own and goes once around all batches; a batch that is there, or
    that another process is making, is not made again. So each finds every image in the end,
    whether the others have come or not.

    Args:
        root: What the processes share.
        shard: Which of the processes this one is: (index, count).
    """

    def make(
        plan: Sequence[Request],
        backend: Backend,
        output: Path | str,
        *,
        batch_size: int,
        progress: Progress = silent,
    ) -> ImageSet:
        size = min(batch_size, backend.maximum_batch or batch_size)
        groups = [
            [request for request in batch if request is not None] for batch in batches(plan, size)
        ]
        first = len(groups) * shard[0] // shard[1]
        progress.start("Generating", len(plan))
        try:
            for group in groups[first:] + groups[:first]:
                with alone(root, group[0].file_name):
                    generate(group, backend, output, batch_size=batch_size)
                progress.advance(len(group), group[0].file_name)
        finally:
            progress.finish()
        return generate(plan, backend, output, batch_size=batch_size)

    return make
