"""The chunks of one call of an engine whose workers may die: who waits, who flies, what is done."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from ..counts import how_many
from ..errors import CuratorError
from .carried import CarriedError

AHEAD = 2
"""Chunks that a worker has at once: one in work, one that it begins without waiting."""
TRIES = 3
"""How often a chunk is begun before it is given up as what kills its worker."""
_WINDOW = 4
"""Chunks a worker that may be begun and not yet consumed."""


class WorkerLostError(CuratorError):
    """Worker processes ended several times at the same part of the work."""

    def __init__(self, times: int, how: str) -> None:
        super().__init__(
            f"A worker process ended {how_many(times, 'time')} at the same part of the work "
            f"({how}). What is done is kept. If memory ran out, the system has killed it: use "
            "fewer workers (--workers 1), or a smaller batch size."
        )


@contextmanager
def alone(lock: Lock) -> Iterator[None]:
    """Let one caller at a time use an engine.

    Raises:
        RuntimeError: Another does.
    """
    if not lock.acquire(blocking=False):
        raise RuntimeError("This engine is at work already.")
    try:
        yield
    finally:
        lock.release()


class Turn:
    """The state of one call of :meth:`.work.Engine.map`: chunks by their number, pickled.

    Args:
        chunks: Are taken one after the other, when there is room.
        workers: How many work.

    Attributes:
        waiting: Chunks that no worker has: new ones, after those whose worker died.
        flying: The pickled chunks that were begun and have no result.
    """

    def __init__(self, chunks: Iterable[Any], workers: int) -> None:
        self.waiting: deque[int] = deque()
        self.flying: dict[int, bytes] = {}
        self._pending = enumerate(pickle.dumps(chunk) for chunk in chunks)
        self._window = _WINDOW * workers
        self._done: dict[int, Any] = {}
        self._tries: dict[int, int] = {}
        self._following = 0
        self._begun = 0
        self._over = False

    @property
    def goes_on(self) -> bool:
        """Whether results are still to come."""
        return self._following < self._begun

    @property
    def has_result(self) -> bool:
        """Whether the next result is there."""
        return self._following in self._done

    def take(self) -> bool:
        """Take the next chunk in, where there is one and few are on their way."""
        if self._over or self._begun - self._following >= self._window:
            return False
        number, data = next(self._pending, (-1, b""))
        if number < 0:
            self._over = True
            return False
        self.flying[number] = data
        self.waiting.append(number)
        self._begun += 1
        return True

    def finish(self, number: int, what: Any) -> None:
        """Keep what came of a chunk. After an error no more chunks are taken in."""
        del self.flying[number]
        self._done[number] = what
        self._over |= isinstance(what, CarriedError)

    def results(
        self, deal: Callable[[Turn], bool], listen: Callable[[Turn], None]
    ) -> Iterator[Any]:
        """Yield the result of each chunk, in order.

        Args:
            deal: Gives chunks to workers; returns whether results are still to come.
            listen: Waits for what a worker says next.
        """
        while deal(self):
            while not self.has_result:
                listen(self)
                deal(self)
            yield self.result()

    def result(self) -> Any:
        """Return the next result; raise the error that a worker raised in its place."""
        result = self._done.pop(self._following)
        self._following += 1
        if isinstance(result, CarriedError):
            raise result.rebuilt()
        return result

    def lose(self, numbers: Sequence[int], how: str) -> None:
        """Take the chunks of a dead worker back; the first, which it was at, counts as tried.

        Raises:
            WorkerLostError: That chunk has been tried often enough.
        """
        tried = numbers[0]
        self._tries[tried] = self._tries.get(tried, 0) + 1
        self.waiting.extendleft(reversed(numbers))
        if self._tries[tried] >= TRIES:
            raise WorkerLostError(TRIES, how)
