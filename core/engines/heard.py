"""What workers tell beside their results, said here as if it had been found here.

Who does a part of the work must not show in what a run says. What each worker finds by itself when
it opens the work is one thing, however many open it; and what was found in a chunk whose worker has
died is found again by the one who does that chunk instead.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from ..damages import Damage, note
from .carried import CarriedDamage, CarriedLine


@dataclass
class _Place:
    """How much of each kind was found in one place."""

    told: Counter[tuple[Hashable, Damage]] = field(default_factory=Counter)
    """By each of the workers."""
    noted: Counter[Damage] = field(default_factory=Counter)


class Heard:
    """Log lines and damage that the workers of one engine tell of.

    Args:
        once: The least level of lines that are said once where several workers say them alike.
    """

    def __init__(self, once: int = logging.WARNING) -> None:
        self._once = once
        self._lines: dict[CarriedLine, Hashable] = {}
        self._work = b""
        self._opened: dict[bytes, _Place] = {}
        self._chunks: dict[int, _Place] = {}

    def begin(self, work: bytes) -> None:
        """Hear of other chunks from now on, which are counted from zero.

        Args:
            work: What the workers do: the pickled description.
        """
        self._work = work
        self._chunks.clear()

    def line(self, worker: Hashable, line: CarriedLine) -> None:
        """Log a worker's line."""
        if line.level < self._once or self._lines.setdefault(line, worker) == worker:
            line.say()

    def damage(self, worker: Hashable, chunk: int | None, told: CarriedDamage) -> None:
        """Note what a worker has found damaged.

        Of one place that several have been at, the most that one of them has found is what there
        was.

        Args:
            worker: Who tells.
            chunk: The number of the chunk that it is at, if it is at one.
            told: What it tells.
        """
        if told.opening:
            place = self._opened.setdefault(self._work, _Place())
        elif chunk is not None:
            place = self._chunks.setdefault(chunk, _Place())
        else:
            place = _Place()
        kind = replace(told.damage, count=0)
        place.told[worker, kind] += told.damage.count
        new = place.told[worker, kind] - place.noted[kind]
        if new > 0:
            place.noted[kind] += new
            note(replace(kind, count=new), once=told.once)

    def finished(self, chunk: int) -> None:
        """Forget a chunk that nobody does again."""
        self._chunks.pop(chunk, None)
