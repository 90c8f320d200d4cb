"""The engine that does the work in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from .work import Chunk, Result, Tell, Work, unheard


class Here:
    """Works in the caller's process and thread; see :class:`.work.Engine`.

    What was opened stays open for the next call with an equal description, until it is closed.
    """

    workers = 1
    shares = False
    parts = False
    remote = False

    def __init__(self) -> None:
        self._work: Any = None
        self._run: Callable[[Any], Any] | None = None
        self._tell: Tell = unheard

    def map(
        self, work: Work[Chunk, Result], chunks: Iterable[Chunk], *, tell: Tell | None = None
    ) -> Generator[Result, None, None]:
        """Make a result of each chunk when it is asked for."""
        self._tell = tell or unheard
        for chunk in chunks:
            if self._run is None or self._work != work:
                self._run = work.open(lambda note: self._tell(note))
                self._work = work
            yield self._run(chunk)

    def close(self) -> None:
        """Forget the models."""
        self._work = self._run = None
