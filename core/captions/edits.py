"""Edits of captions: what is done to the texts of a set, as pure functions.

An operation takes the captions of a set and returns them changed, in the same order; nothing is
written. :func:`.preview.edit` makes of several a preview, which :func:`.writing.write` writes down
so that it can be taken back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..counts import how_many
from ..dataset.trigger_words import is_named, words_of
from ..errors import CuratorError
from .counting import frequencies
from .phrases import joined, phrases_of, same, tidied, without_repeats

MOST_LETTERS = 10_000
"""Of the words that an operation is about: more of them takes for ever, and is no caption's."""

MOST_SECONDS = 5.0
"""How long a pattern may be tried on one caption."""


class EditError(CuratorError):
    """An operation on captions that cannot be done."""


class Operation(Protocol):
    """Something that is done to the captions of a set; its ``str`` says what."""

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions after it, in the same order."""


@dataclass(frozen=True)
class Add:
    """Add phrases where they are not yet.

    Attributes:
        text: One phrase, or several with commas between.
        front: In front instead of behind; behind the trigger word, if one is given.
        trigger: The word that stays in front.
    """

    text: str
    front: bool = False
    trigger: str = ""

    def __post_init__(self) -> None:
        _something(self.text, "add")

    def __str__(self) -> str:
        return f"add '{self.text}'{' in front' if self.front else ''}"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions with it."""
        return [self._added(text) for text in texts]

    def _added(self, text: str) -> str:
        said = {same(phrase) for phrase in phrases_of(text)}
        new = [phrase for phrase in phrases_of(self.text) if same(phrase) not in said]
        if not new:
            return text
        if not self.front:
            return joined([*([text.rstrip(" ,")] if text else []), *new])
        phrases = phrases_of(text)
        words = {same(word) for word in words_of(self.trigger)}
        start = next((n for n, phrase in enumerate(phrases) if same(phrase) not in words), None)
        at = len(phrases) if start is None else start
        return joined([*phrases[:at], *new, *phrases[at:]])


@dataclass(frozen=True)
class Remove:
    """Take phrases away: what stands between commas and says just that, case aside.

    Attributes:
        text: One phrase, or several with commas between.
    """

    text: str

    def __post_init__(self) -> None:
        _something(self.text, "remove")

    def __str__(self) -> str:
        return f"remove '{self.text}'"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions without it."""
        gone = {same(phrase) for phrase in phrases_of(self.text)}
        return [_without(text, gone) for text in texts]


@dataclass(frozen=True)
class Replace:
    """Put other words in the place of words, wherever they stand as whole words, case aside.

    Attributes:
        old: The words.
        new: What stands there afterwards; nothing takes them away.
    """

    old: str
    new: str = ""

    def __post_init__(self) -> None:
        _something(self.old, "replace")
        _bounded(self.new, "replace by")

    def __str__(self) -> str:
        return f"replace '{self.old}' by '{self.new}'"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions with the other words."""
        words = r"[\s_]+".join(re.escape(word) for word in re.split(r"[\s_]+", self.old.strip()))
        pattern = re.compile(rf"(?<!\w){words}(?!\w)", re.I)
        return [_substituted(pattern, lambda _: self.new, text) for text in texts]


@dataclass(frozen=True)
class Substitute:
    r"""Replace by a pattern.

    Attributes:
        pattern: A regular expression of Python; letters count in their case unless it begins with
            ``(?i)``.
        new: What stands there afterwards; ``\1`` is the first group.
    """

    pattern: str
    new: str = ""

    def __post_init__(self) -> None:
        _bounded(self.pattern, "replace")
        _bounded(self.new, "replace by")
        import regex

        try:
            # A text with a group that is not there is refused whether or not anything matches.
            re.compile(self.pattern).sub(self.new, "")
            regex.compile(self.pattern)
        except (re.error, regex.error, IndexError) as error:
            raise EditError(
                f"The pattern '{self.pattern}' with '{self.new}' cannot be used: {error}. It is a "
                "regular expression of Python; a sign that stands for itself needs \\ in front."
            ) from error

    def __str__(self) -> str:
        return f"replace the pattern '{self.pattern}' by '{self.new}'"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions with what is put there.

        Raises:
            EditError: The pattern tries for longer than :data:`MOST_SECONDS` on one of them, as
                repetitions within each other do.
        """
        import regex

        pattern = regex.compile(self.pattern)
        return [self._put(pattern, text) for text in texts]

    def _put(self, pattern: Any, text: str) -> str:
        try:
            changed: str = pattern.sub(self.new, text, timeout=MOST_SECONDS)
        except TimeoutError:
            raise EditError(
                f"The pattern '{self.pattern}' was still tried on one caption after "
                f"{MOST_SECONDS:g} seconds. Repetitions within each other, such as (a|aa)+, try "
                "every way there is: write it without them."
            ) from None
        return text if changed == text else tidied(changed)


@dataclass(frozen=True)
class Trigger:
    """Put the trigger word in front where it is not.

    A caption that has it between commas has it moved to the front; one that names it within a
    sentence ("photo of char1 in a park") stays.

    Attributes:
        word: The trigger word; of several with commas between, a caption that names one stays.
    """

    word: str

    def __post_init__(self) -> None:
        _something(self.word, "trigger")

    def __str__(self) -> str:
        return f"put the trigger word '{self.word}' in front"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions with the word in front."""
        return [self._led(text) for text in texts]

    def _led(self, text: str) -> str:
        words = words_of(self.word)
        phrases = phrases_of(text)
        for word in words:
            if phrases and (phrases[0] == word or is_named(phrases[0], word)):
                return text
        for word in words:
            if word in phrases:
                return joined([word, *(phrase for phrase in phrases if phrase != word)])
        if is_named(text, self.word):
            return text
        if len(words) > 1:
            return text  # nobody knows which of several it shows
        return joined([words[0], text] if text else [words[0]])


@dataclass(frozen=True)
class Prune:
    """Take away the phrases that (nearly) every caption has.

    What is always there is learnt best by the trigger word: said in the captions, it stays with
    its own words, and the trigger word alone does not show it.

    Attributes:
        share: From which share of the captions on, from above 0 to 1.
        keep: Phrases that stay, with commas between.
        trigger: Trigger words; a phrase that names one stays.
    """

    share: float = 1.0
    keep: str = ""
    trigger: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise EditError(
                f"{self.share:g} is no share of the captions from which on to prune: give one "
                "above 0 and up to 1, such as 0.9."
            )

    def __str__(self) -> str:
        kept = f", but keep '{self.keep}'" if self.keep else ""
        return f"prune what {self.share:.0%} of the captions have{kept}"

    def always(self, texts: Sequence[str]) -> list[str]:
        """Return the phrases that are pruned, the most frequent first."""
        kept = {same(word) for word in phrases_of(self.keep)}
        if sum(bool(text) for text in texts) < 2:
            return []  # of a single caption everything is always there
        found = frequencies(texts)
        return [
            one.text
            for one in found
            if one.share >= self.share
            and same(one.text) not in kept
            and not is_named(one.text, self.trigger)
        ]

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions without these phrases."""
        gone = {same(phrase) for phrase in self.always(texts)}
        return [_without(text, gone) for text in texts]


@dataclass(frozen=True)
class Deduplicate:
    """Take away phrases that a caption has said before."""

    def __str__(self) -> str:
        return "take repeated phrases away"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the captions with every phrase once."""
        return [_once(text) for text in texts]


def _once(text: str) -> str:
    phrases = phrases_of(text)
    once = without_repeats(phrases)
    return text if len(once) == len(phrases) else joined(once)


def _without(text: str, gone: set[str]) -> str:
    phrases = phrases_of(text)
    kept = [phrase for phrase in phrases if same(phrase) not in gone]
    # A sentence keeps its full stop where the phrase behind it goes.
    return text if len(kept) == len(phrases) else joined(kept)


def _substituted(pattern: re.Pattern[str], new: object, text: str) -> str:
    changed = pattern.sub(new, text)  # type: ignore[call-overload]
    return text if changed == text else tidied(changed)


def _something(text: str, what: str) -> None:
    if not phrases_of(text):
        raise EditError(f"Nothing is given to {what}. Name the words.")
    _bounded(text, what)


def _bounded(text: str, what: str) -> None:
    if len(text) > MOST_LETTERS:
        raise EditError(
            f"What is given to {what} has {how_many(len(text), 'letter')}: at most "
            f"{MOST_LETTERS:,} are taken. Name the words alone."
        )
