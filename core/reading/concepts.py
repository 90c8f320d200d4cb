"""Folders as kohya's trainers name them: ``10_char1 woman`` is repeats, trigger and class word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

_NAME = re.compile(r"(\d{1,4})_(\S.*)")
_MOST_REPEATS = 1000
_A_DATE = re.compile(r"(?:19|20)\d\d_|\d+_\d+(?:_|$)")


@dataclass(frozen=True)
class Concept:
    """What a folder's name says of its images.

    Attributes:
        folder: The name.
        repeats: How often an epoch shows each of its images.
        trigger: The word that calls whom they show.
        class_word: What that is, such as ``woman``; empty where it is not said.
    """

    folder: str
    repeats: int
    trigger: str
    class_word: str

    @property
    def phrase(self) -> str:
        """Trigger and class word together."""
        return f"{self.trigger} {self.class_word}".strip()


def concept_of(name: str) -> Concept | None:
    """Read a folder's name; ``None`` if it is of another form.

    A year or a date in front (``2023_summer``, ``05_12_party``) is none of repeats.

    Example:
        >>> concept_of("10_char1 woman")
        Concept(folder='10_char1 woman', repeats=10, trigger='char1', class_word='woman')
        >>> concept_of("2023_summer") is None
        True
    """
    found = _NAME.fullmatch(name.strip())
    if found is None or _A_DATE.match(name.strip()):
        return None
    repeats = int(found[1])
    if not 1 <= repeats <= _MOST_REPEATS:
        return None
    trigger, _, class_word = found[2].strip().partition(" ")
    return Concept(name, repeats, trigger, class_word.strip())


def concept_above(path: str | PurePath, root: str = "") -> Concept | None:
    """Return the concept of the nearest folder above a file that names one.

    Args:
        path: The file's path below a root.
        root: The root's own name, which counts last.
    """
    for name in [*reversed(PurePath(path).parts[:-1]), root]:
        found = concept_of(name)
        if found is not None:
            return found
    return None
