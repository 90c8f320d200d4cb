"""What a run has found damaged on the disk: noted where it is found, said at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

_collecting: list[list[Damage]] = []


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
        return f"{self.count} damaged {self.what} in {self.where}: {self.then}"


def note_damage(what: str, where: object, then: str, count: int = 1) -> None:
    """Note something damaged, for whoever collects it; see :class:`Damage`."""
    if count:
        for found in _collecting:
            found.append(Damage(what, str(where), then, count))


@contextmanager
def collected_damage() -> Iterator[list[Damage]]:
    """Yield a list to which all is added that is noted until the end, from every thread."""
    found: list[Damage] = []
    _collecting.append(found)
    try:
        yield found
    finally:
        # By what it is, not by what is in it: two may hold the same.
        _collecting[:] = [one for one in _collecting if one is not found]


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
