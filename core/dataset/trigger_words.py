"""The trigger word, as people write it: several after commas, or with the class word behind."""

from __future__ import annotations

import re


def words_of(trigger: str) -> tuple[str, ...]:
    """Return each of several trigger words, ``"char1, char2"``; none of nothing but commas."""
    return tuple(word.strip() for word in trigger.split(",") if word.strip())


def is_named(caption: str, trigger: str) -> bool:
    """Whether a caption has a trigger word (or one of several), not as a part of another word."""
    words = "|".join(re.escape(word) for word in words_of(trigger))
    return bool(words) and re.search(rf"(?<!\w)(?:{words})(?!\w)", caption) is not None


def without_class_word(trigger: str, class_word: str) -> str:
    """Return a trigger phrase such as ``"char1 woman"`` as the trigger word alone."""
    return trigger.removesuffix(f" {class_word}")
