"""Counts in sentences: a number with its noun and its verb, in the singular where it is one."""

from __future__ import annotations

import re

_IRREGULAR = {"person": "people", "epoch": "epochs"}
_HISSING = ("s", "x", "z", "ch", "sh")


def how_many(count: int, one: str, many: str | None = None) -> str:
    """Say how many there are: ``1 image``, ``1,500 images``, ``1 file was``, ``2 files were``.

    Args:
        count: How many, 0 or more.
        one: What one is called, with its verb where there is one: ``image``, ``file was``.
        many: What none or several are called, where it is not the plural of a noun alone.

    Returns:
        The number, with commas between thousands, and what is counted.

    Example:
        >>> how_many(1, "image"), how_many(1500, "image"), how_many(2, "disturbed copy")
        ('1 image', '1,500 images', '2 disturbed copies')
        >>> how_many(1, "file was", "files were"), how_many(0, "file was", "files were")
        ('1 file was', '0 files were')
    """
    return f"{count:,} {worded(count, one, many)}"


def worded(count: int, one: str, many: str | None = None) -> str:
    """Return the form of words that goes with a count: of :func:`how_many`, without the number.

    Example:
        >>> worded(1, "is", "are"), worded(3, "is", "are"), worded(0, "copy")
        ('is', 'are', 'copies')
    """
    if count == 1:
        return one
    return plural(one) if many is None else many


def plural(noun: str) -> str:
    """Return the plural of an English noun; of several words, the last one's.

    Example:
        >>> plural("near-duplicate"), plural("copy"), plural("batch"), plural("epoch")
        ('near-duplicates', 'copies', 'batches', 'epochs')
    """
    before, space, word = noun.rpartition(" ")
    if word in _IRREGULAR:
        return before + space + _IRREGULAR[word]
    if len(word) > 1 and word[-1] == "y" and word[-2] not in "aeiou":
        return f"{before}{space}{word[:-1]}ies"
    return f"{noun}es" if word.endswith(_HISSING) else f"{noun}s"


def singular(nouns: str) -> str:
    """Return one of what a plural names: the noun before the first ``of`` or bracket, or the last.

    Example:
        >>> singular("files of trainings"), singular("disturbed copies"), singular("scores (faces)")
        ('file of trainings', 'disturbed copy', 'score (faces)')
    """
    head, *rest = re.split("( of | [(])", nouns, maxsplit=1)
    if head.endswith("ies"):
        head = f"{head[:-3]}y"
    elif head.endswith("es") and head[:-2].endswith(("ss", *_HISSING[1:])):
        head = head[:-2]
    else:
        head = head.removesuffix("s")
    return "".join((head, *rest))
