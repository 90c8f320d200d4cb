"""What a run has found damaged on the disk: noted where it is found, said at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from .counts import how_many, singular

Hear = Callable[["Damage", bool], object]
"""Takes what is noted, and whether it counts once; in the thread that notes it."""

_hearing: list[tuple[Hear]] = []
"""Whoever listens, each in a tuple of its own, which is known again by what it is."""


@dataclass(frozen=True)
class Damage:
    """Something that was not as it had been written.

    Attributes:
        what: Its kind, in the plural: ``measurements``.
        where: The file or folder.
        then: What became of it: ``measured again``.
        count: How many of them.
    """

    what: str
    where: str
    then: str
    count: int = 1

    def __str__(self) -> str:
        told = how_many(self.count, f"damaged {singular(self.what)}", f"damaged {self.what}")
        return f"{told} in {self.where}: {self.then}"


def note_damage(what: str, where: object, then: str, count: int = 1, *, once: bool = False) -> None:
    """Note something damaged, for whoever collects it; see :class:`Damage`.

    Args:
        what: Its kind, in the plural.
        where: The file or folder.
        then: What became of it.
        count: How many of them.
        once: Whether it is the same each time, however often it is read and noted.
    """
    note(Damage(what, str(where), then, count), once=once)


def note(damage: Damage, *, once: bool = False) -> None:
    """Note something damaged that is described already: another process has found it."""
    if damage.count:
        for (hear,) in [*_hearing]:
            hear(damage, once)


def hear_damage(hear: Hear) -> Callable[[], None]:
    """Tell of all that is noted from now on, from every thread; return what ends that."""
    one = (hear,)
    _hearing.append(one)

    def end() -> None:
        _hearing[:] = [other for other in _hearing if other is not one]

    return end


@contextmanager
def collected_damage() -> Iterator[list[Damage]]:
    """Yield a list to which all is added that is noted until the end, from every thread."""
    found: list[Damage] = []

    def hear(damage: Damage, once: bool) -> None:
        if not (once and damage in found):
            found.append(damage)

    end = hear_damage(hear)
    try:
        yield found
    finally:
        end()


def summary(found: Iterable[Damage]) -> list[Damage]:
    """Return damage of one kind in one place as one, in the order in which it was found."""
    counted: dict[Damage, int] = {}
    for one in found:
        kind = replace(one, count=0)
        counted[kind] = counted.get(kind, 0) + one.count
    return [replace(kind, count=count) for kind, count in counted.items()]


def as_mappings(found: Iterable[Damage]) -> list[dict[str, Any]]:
    """Return the summary as JSON knows it."""
    return [asdict(one) for one in summary(found)]
