"""What is given damaged input, one entry a reader; and how one is run and reported."""

from __future__ import annotations

import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from character_curator.errors import CuratorError
from tests.support.fuzzing.limits import SECONDS, TooLargeError, TooSlowError, bounded

Mutation = Callable[[bytes, np.random.Generator], bytes]


@dataclass
class Target:
    """A reader of what somebody else may have written.

    Attributes:
        name: What it reads.
        seeds: Makes whole examples, in a folder of its own.
        mutate: Damages one of them.
        read: Reads a damaged one, in that folder, in several ways if there are; returns a text
            where it was refused without an error, as an image's row is.
        documented: What it may raise.
        seconds: How long an example may take.
        whole_is_refused: Whether what is whole is refused too, for a reason that the name says.
        dear: Whether each example takes long, so that only the long form reads any.
    """

    name: str
    seeds: Callable[[Path], Iterable[bytes]]
    mutate: Mutation
    read: Callable[[Path, bytes], object]
    documented: tuple[type[BaseException], ...] = (CuratorError,)
    seconds: float = SECONDS
    whole_is_refused: bool = False
    dear: bool = False
    folder: Path = field(default=Path(), init=False)

    def __str__(self) -> str:
        return self.name

    @cached_property
    def examples(self) -> list[bytes]:
        """Whole examples; each is read before anything is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = list(self.seeds(self.folder))
        for data in made:
            refused = self.read(self.folder, data)
            assert not isinstance(refused, str) or self.whole_is_refused, refused
        return made

    def example(self, seed: int, number: int) -> bytes:
        """Return a damaged example, the same for the same numbers."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed, number])
        return self.mutate(self.examples[int(rng.integers(len(self.examples)))], rng)


@dataclass
class Found:
    """What came of the examples of a target.

    Attributes:
        target: Which.
        outcomes: How many were read, and how many refused, by the error's name.
        faults: What was neither: number of the example, what happened, the data.
        seconds: All of them took.
        slowest: Seconds of the slowest.
    """

    target: Target
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, bytes]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def __str__(self) -> str:
        count, read = self.outcomes.total(), self.outcomes["read"]
        return (
            f"{self.target.name:32} {count:8,} {read:8,} {count - read - len(self.faults):8,} "
            f"{len(self.faults):6,} {self.seconds:8.1f} {self.slowest:8.2f}"
        )


HEADING = f"{'':32} examples     read  refused  wrong  seconds  slowest"


def try_target(
    target: Target, folder: Path, examples: int, *, seconds: float = 1e9, seed: int = 0,
    first: int = 0, told=None,
) -> Found:  # fmt: skip
    """Give a target damaged examples, until so many are done or so much time is over."""
    target.folder = folder / target.name.replace(" ", "-")
    found = Found(target)
    assert target.examples
    begun = time.monotonic()
    for number in range(first, first + examples):
        if time.monotonic() - begun > seconds or len(found.faults) >= 20:
            break
        data = target.example(seed, number)
        start = time.monotonic()
        fault = ""
        try:
            with bounded(target.seconds, told=told):
                refused = target.read(target.folder, data)
            found.outcomes["refused" if isinstance(refused, str) else "read"] += 1
        except target.documented as error:
            found.outcomes[type(error).__name__] += 1
            fault = _unsaid(error)
        except TooSlowError:
            fault = f"longer than {target.seconds:g} s"
        except TooLargeError as error:
            fault = f"too much memory: {error}"
        except Exception:
            fault = traceback.format_exc()
        if fault:
            found.outcomes["wrong"] += 1
            found.faults.append((number, fault, data))
        found.slowest = max(found.slowest, time.monotonic() - start)
    found.seconds = time.monotonic() - begun
    return found


def _unsaid(error: BaseException) -> str:
    """Say what is wrong with a documented error: it says nothing, or more than anybody reads."""
    text = str(error)
    if not text.strip():
        return f"{type(error).__name__} says nothing"
    return f"{type(error).__name__} says {len(text):,} characters" if len(text) > 20_000 else ""
