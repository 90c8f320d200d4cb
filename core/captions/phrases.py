"""Captions as lists: what stands between commas, and when two of these say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_FACE = re.compile(r"[^\w\s]_[^\w\s]|^(\w)_\1$", re.I)
_EMPTY_PARTS = re.compile(r"(?:\s*,)+\s*(?=,)|^\s*,+\s*|\s*,+\s*$")


def phrases_of(text: str) -> list[str]:
    """Return what stands between the commas of a caption, without what is empty."""
    return [phrase for part in text.split(",") if (phrase := " ".join(part.split()))]


def joined(phrases: Iterable[str]) -> str:
    """Return phrases as a caption."""
    return ", ".join(phrases)


def spoken(tag: str) -> str:
    """Return a tag with spaces for its underscores; faces such as ``^_^`` and ``o_o`` are kept."""
    return tag if _FACE.search(tag) else tag.replace("_", " ")


def same(phrase: str) -> str:
    """Return what two phrases have in common that say the same: case and underscores aside."""
    return " ".join(spoken(phrase).casefold().split())


def without_repeats(phrases: Sequence[str]) -> list[str]:
    """Return phrases without those that were said before, in their order."""
    first: dict[str, str] = {}
    for phrase in phrases:
        first.setdefault(same(phrase), phrase)
    return list(first.values())


def tidied(text: str) -> str:
    """Return a caption in one line, without commas that nothing stands between."""
    line = " ".join(text.split())
    return _EMPTY_PARTS.sub("", line).replace(" ,", ",").strip()
