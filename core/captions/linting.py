"""What is wrong with the captions of a set, before a training learns it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..counts import how_many
from ..dataset.trigger_words import is_named, words_of
from .edits import Prune
from .phrases import phrases_of, same
from .table import Captioned, CaptionTable
from .tokens import TextEncoder


class Kind(str, Enum):
    """What may be wrong with a caption."""

    MISSING = "no caption"
    UNREAD = "unknown encoding"
    ELSEWHERE = "link out of the folder"
    NO_TRIGGER = "no trigger word"
    CONTRADICTION = "contradiction"
    TOO_LONG = "too long"
    REPEATED = "repeated phrase"
    TRIGGER_LATER = "trigger word not in front"
    SAME = "same caption"
    SYNTAX = "prompt syntax"
    ALWAYS = "always there"

    def __str__(self) -> str:
        return self.value


HINTS = frozenset({Kind.TRIGGER_LATER, Kind.SAME, Kind.SYNTAX, Kind.ALWAYS})
"""What may be as it should be; the others are faults."""

_EXCLUSIVE: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("front view", "frontal view", "from front"), ("three-quarter view",),
     ("profile view", "side view", "from side", "in profile"),
     ("back view", "from behind", "facing away")),
    (("close-up", "close up", "closeup"), ("half body", "upper body"), ("full body",)),
    (("indoors",), ("outdoors",)),
    (("daytime", "daylight", "by day"), ("night", "nighttime", "at night")),
    (("open mouth", "mouth open"), ("closed mouth", "mouth closed")),
    (("open eyes", "eyes open"), ("closed eyes", "eyes closed")),
    (("standing",), ("sitting",), ("lying", "lying down"), ("kneeling",)),
    (("smile", "smiling", "grin"), ("frown", "frowning", "crying", "expressionless")),
    (("solo",), ("2girls", "3girls", "multiple girls", "2boys", "multiple boys", "a couple")),
    (("no humans",), ("solo", "1girl", "1boy", "2girls", "2boys")),
    (("short hair",), ("long hair", "very long hair")),
    (("monochrome", "black and white", "greyscale", "grayscale"), ("colorful", "vibrant colors")),
)  # fmt: skip
"""What cannot be said of one image together: of each line, terms of one group."""

_POSES = {"frontal": "front view", "three-quarter": "three-quarter view", "profile": "profile view"}
_SYNTAX = re.compile(
    r"<(?:lora|lyco|hypernet)[^<>]*>|[(\[][^()\[\]]+:\s*-?\d*\.?\d+[)\]]|\bBREAK\b"
)


@dataclass(frozen=True)
class Finding:
    """Something that may be wrong with a caption.

    Attributes:
        kind: What.
        image: The image's name; empty of what is about the whole set.
        detail: The words in question, and of what is too long where it is cut.
    """

    kind: Kind
    image: str
    detail: str

    @property
    def is_hint(self) -> bool:
        """Whether it may be as it should be."""
        return self.kind in HINTS

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"kind": self.kind.value, "hint": self.is_hint, "image": self.image,
                "detail": self.detail}  # fmt: skip


def lint(
    table: CaptionTable, *, encoder: TextEncoder | None = None, trigger: str | None = None
) -> list[Finding]:
    """Check the captions of a folder.

    Args:
        table: The captions.
        encoder: The text encoder that will read them, by whose tokenizer their length counts;
            :func:`.tokens.text_encoder` returns it. ``None`` does not check lengths.
        trigger: The trigger word; the folder's own unless given.

    Returns:
        What was found, faults before hints, each in the order of the images.
    """
    word = table.trigger if trigger is None else trigger
    found = [one for row in table.rows for one in _of_row(row, word, encoder)]
    found += _repeated_captions(table)
    always = Prune(trigger=word).always(table.texts) if len(table.rows) > 2 else []
    if always:
        found.append(Finding(Kind.ALWAYS, "", ", ".join(always)))
    order = list(Kind)
    return sorted(found, key=lambda one: order.index(one.kind))


def _of_row(row: Captioned, trigger: str, encoder: TextEncoder | None) -> Iterator[Finding]:
    if row.unread:
        yield Finding(Kind.ELSEWHERE if row.elsewhere else Kind.UNREAD, row.image, row.file)
        return
    if not row.text:
        yield Finding(Kind.MISSING, row.image, "")
        return
    if words_of(trigger):
        if not is_named(row.text, trigger):
            yield Finding(Kind.NO_TRIGGER, row.image, f"'{trigger}'")
        elif not is_named(phrases_of(row.text)[0], trigger):
            yield Finding(Kind.TRIGGER_LATER, row.image, f"'{trigger}'")
    for terms in contradictions(row.text):
        yield Finding(Kind.CONTRADICTION, row.image, " and ".join(f"'{term}'" for term in terms))
    yield from _against_measured(row)
    cut = encoder.cut(row.text) if encoder is not None else None
    if encoder is not None and cut is not None:
        count = encoder.count(row.text)
        yield Finding(
            Kind.TOO_LONG,
            row.image,
            f"{how_many(count, 'token')}, and {encoder.name} reads {encoder.limit}; it is cut "
            f"before: {cut[1]}",
        )
    counted = Counter(map(same, phrases_of(row.text)))
    if several := [phrase for phrase, count in counted.items() if count > 1]:
        yield Finding(Kind.REPEATED, row.image, ", ".join(f"'{phrase}'" for phrase in several))
    if syntax := _SYNTAX.findall(row.text):
        yield Finding(Kind.SYNTAX, row.image, ", ".join(syntax))


def contradictions(text: str) -> list[tuple[str, ...]]:
    """Return the terms of a caption that cannot be said of one image together.

    A single word counts as a phrase of its own only ("standing" between commas, not "a standing
    lamp"); several words count wherever they stand.
    """
    phrases = {same(phrase) for phrase in phrases_of(text)}
    line = same(text)
    found = []
    for groups in _EXCLUSIVE:
        said = [term for group in groups if (term := _said(group, phrases, line))]
        if len(said) > 1:
            found.append(tuple(said))
    return found


def _said(terms: Sequence[str], phrases: set[str], line: str) -> str:
    for term in terms:
        several = " " in term or "-" in term
        if term in phrases or (several and re.search(rf"(?<!\w){re.escape(term)}(?!\w)", line)):
            return term
    return ""


def _against_measured(row: Captioned) -> Iterator[Finding]:
    """Compare a caption with the pose and the framing that were measured of the image."""
    phrases, line = {same(phrase) for phrase in phrases_of(row.text)}, same(row.text)
    pose, framing = row.known.get("pose"), row.known.get("framing")
    measured = ((_POSES.get(str(pose)), 0), (str(framing or ""), 1))
    for own, number in measured:
        groups = _EXCLUSIVE[number]
        mine = next((group for group in groups if own in group), None)
        if mine is None or _said(mine, phrases, line):
            continue
        for group in groups:
            term = _said(group, phrases, line)
            if group is not mine and term:
                yield Finding(Kind.CONTRADICTION, row.image, f"'{term}', and measured is '{own}'")
                break


def _repeated_captions(table: CaptionTable) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for row in table.rows:
        if not row.text:
            continue
        key = same(row.text)
        if key in first:
            yield Finding(Kind.SAME, row.image, f"as {first[key]}")
        first.setdefault(key, row.image)
