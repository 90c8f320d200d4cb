"""What work is, whoever does it: a description that travels, and chunks of plain data."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..errors import CuratorError

Chunk_contra = TypeVar("Chunk_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

Tell = Callable[[Any], None]
"""Takes a note: plain data that says how far a chunk is. It may raise to cancel the work."""


class WorkerCountError(CuratorError):
    """Work is to be done by less than one worker."""

    def __init__(self, workers: int) -> None:
        super().__init__(f"workers = {workers}: at least one is needed. Give 1, or more.")


class Work(Protocol[Chunk_contra, Result_co]):
    """An immutable, picklable description of the work.

    What it makes of a chunk depends on the description and the chunk alone: not on the chunks
    before, and not on who else works.
    """

    def open(self, tell: Tell) -> Callable[[Chunk_contra], Result_co]:
        """Load the models, once in each worker.

        Args:
            tell: Carries notes to the caller while a chunk is worked on.

        Returns:
            What makes a result of a chunk. Both are picklable plain data.
        """
        ...


class Engine(Protocol):
    """Does work, a chunk at a time.

    An engine is used by one caller at a time, who closes it in the end.

    Attributes:
        shares: Whether models run as they do in one of several workers, whoever runs them: with as
            many threads as :func:`.local.threads` says.
        parts: Whether workers write what they find beside where it is kept, to be merged later, so
            that it does not all go through the caller.
        remote: Whether workers may be on other machines.
    """

    shares: bool
    parts: bool
    remote: bool

    @property
    def workers(self) -> int:
        """How many chunks are worked on at once."""
        ...

    def map(
        self, work: Work[Chunk, Result], chunks: Iterable[Chunk], *, tell: Tell | None = None
    ) -> Generator[Result, None, None]:
        """Make a result of each chunk.

        A bounded number of chunks is taken ahead of the results that are consumed. Whoever may
        stop early closes the iterator (``contextlib.closing``), which ends the workers.

        Args:
            work: What to do.
            chunks: Are taken one after the other.
            tell: Is given the workers' notes, in the caller's thread; those of a chunk come
                before its result. It may raise to cancel.

        Yields:
            The results, in the order of the chunks.

        Raises:
            CuratorError: As it was raised in a worker, at its chunk's turn.
            WorkerLostError: A worker died several times with the same chunk.
        """
        ...

    def close(self) -> None:
        """End the workers. The engine starts others when it is used again."""
        ...


def unheard(note: Any) -> None:
    """Take a note that nobody wants."""


class Needs(NamedTuple):
    """What a worker takes of its machine. Work may tell it as its attribute ``needs``."""

    memory: int = 2**30
    """Bytes, with libraries, models and what passes through them."""
    device: str = ""
    """Where its models run, in torch's words."""


class Counted(Generic[Chunk]):
    """Chunks of which it is known how many there are, though each is cut when it is taken.

    Args:
        chunks: Are taken once.
        count: How many.
    """

    def __init__(self, chunks: Iterable[Chunk], count: int) -> None:
        self._chunks, self._count = chunks, count

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._chunks)

    def __length_hint__(self) -> int:
        return self._count
