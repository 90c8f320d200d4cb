"""How often the captions of a set say what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .phrases import phrases_of, same

By = Literal["phrases", "words"]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_LITTLE = frozenset(
    ["a", "an", "and", "as", "at", "by", "for", "from", "her", "his", "in", "into", "is", "it",
     "its", "of", "on", "or", "she", "he", "that", "the", "their", "there", "this", "to", "while",
     "with"]
)  # fmt: skip


@dataclass(frozen=True)
class Frequency:
    """How often a phrase or a word is there.

    Attributes:
        text: As most captions write it.
        count: In how many captions.
        share: Over the captions that say anything.
    """

    text: str
    count: int
    share: float


def frequencies(texts: Sequence[str], by: By = "phrases") -> list[Frequency]:
    """Count in how many captions each phrase is, the most frequent first.

    Args:
        texts: The captions; empty ones are left out.
        by: ``phrases`` counts what stands between commas, case and underscores aside; ``words``
            single words, without articles and the like, which says more of sentences.
    """
    spellings: dict[str, Counter[str]] = {}
    said = [text for text in texts if text]
    for text in said:
        found = _words(text) if by == "words" else phrases_of(text)
        # Of a caption that says it twice in two ways the first counts.
        for key, spelling in {same(one): one for one in reversed(list(found))}.items():
            spellings.setdefault(key, Counter())[spelling] += 1
    counted = [
        Frequency(several.most_common(1)[0][0], several.total(), several.total() / len(said))
        for several in spellings.values()
    ]
    return sorted(counted, key=lambda one: (-one.count, same(one.text)))


def _words(text: str) -> Iterable[str]:
    found = _WORD.findall(text.replace("_", " "))
    return (word for word in found if word.casefold() not in _LITTLE)
