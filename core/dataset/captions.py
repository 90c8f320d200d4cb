"""Captions for training: the trigger word, and what varies from image to image.

A LoRA binds to its trigger word what the captions leave unsaid. So a caption names outfit,
background, light, pose and framing, and leaves the face to the trigger word.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from ..counts import how_many
from ..errors import CuratorError
from .trigger_words import is_named

Row = Mapping[str, Any]

DEFAULT = "trigger + what varies"

EDITED = "caption_edited"
"""The column of a set that says which captions are as somebody has edited them."""

_LONGEST_TRIGGER = 1000
_VIEWS = {"frontal": "front view", "three-quarter": "three-quarter view", "profile": "profile view"}
_FIELDS = (
    "caption",
    "category",
    "cluster_name",
    "framing",
    "kind",
    "pose",
    "prompt",
    "scenario_name",
    "seed",
    "subject",
)


class CaptionError(CuratorError):
    """A caption strategy that does not exist, a template's unknown field, too long a trigger."""


def what_varies(row: Row) -> str:
    """Describe an image without its subject.

    That is its caption (or, without one, its prompt, or the name of its scenario), then framing
    and pose unless the text says them already. A caption that somebody has written beside the
    image, or edited, is taken as it is.
    """
    if row.get("caption_file") or row.get(EDITED):
        return _one_line(row.get("caption") or "")
    text = row.get("caption") or row.get("prompt") or _spoken(row.get("scenario_name")) or ""
    framing = _spoken(row.get("framing"))
    view = _VIEWS.get(row.get("pose") or "", "")
    parts = [text, framing]
    if view and not _says(text, view.split()[0]) and not _says(text, view):
        parts.append(view)
    return _joined(*parts)


_STRATEGIES: dict[str, Callable[[Row, str], str]] = {
    "prompt": lambda row, trigger: row.get("prompt") or trigger,
    "trigger": lambda row, trigger: trigger,
    "trigger + prompt": lambda row, trigger: _joined(trigger, row.get("prompt")),
    "trigger + caption": lambda row, trigger: _joined(trigger, row.get("caption")),
    DEFAULT: lambda row, trigger: _joined(trigger, what_varies(row)),
}

_KEEPING = (DEFAULT, "trigger + caption")
"""The strategies that leave a caption which somebody has written as it is."""

STRATEGIES = tuple(_STRATEGIES)
"""The names of the strategies; a template such as ``"photo of {trigger}, {pose}"`` is another."""


def caption(row: Row, trigger: str | None = None, strategy: str = DEFAULT) -> str:
    """Write the caption of one image, in one line.

    Args:
        row: The image's row of the table.
        trigger: The trigger word; ``None`` takes the subject of the row. In front of a caption that
            somebody has written beside the image it is put only if it is given, and not there yet.
        strategy: One of :data:`STRATEGIES`, or a template with the fields ``{trigger}``,
            ``{caption}``, ``{prompt}``, ``{varies}``, ``{subject}``, ``{scenario_name}``,
            ``{category}``, ``{framing}``, ``{pose}``, ``{cluster_name}``, ``{kind}``, ``{seed}``.
            A part between commas that has nothing to say is left out.

    Raises:
        CaptionError: The strategy is unknown, or the template is.
    """
    word = trigger if trigger is not None else row.get("subject") or ""
    if row.get("caption_file") and strategy in _KEEPING:
        written = _one_line(row.get("caption") or "")
        return written if trigger is None or is_named(written, word) else _joined(word, written)
    if row.get(EDITED) and strategy in _KEEPING and is_named(row.get("caption") or "", word):
        return _one_line(row.get("caption") or "")
    if strategy in _STRATEGIES:
        return _one_line(_STRATEGIES[strategy](row, word))
    fields = _template_fields(strategy)
    known = {name: _spoken(row.get(name)) for name in _FIELDS}
    known |= {"prompt": row.get("prompt") or "", "caption": row.get("caption") or ""}
    known |= {"trigger": word, "varies": what_varies(row)}
    for name in fields:
        if name not in known:
            raise CaptionError(
                f"Unknown field {{{name}}} in the caption template '{strategy}'. Fields are: "
                + ", ".join(f"{{{field}}}" for field in sorted(known))
                + "."
            )
    return _joined(*strategy.format(**known).split(","))


def check_trigger(trigger: str | Mapping[str, str] | None) -> None:
    """Raise :class:`CaptionError` where a trigger word is longer than any caption."""
    words = trigger.values() if isinstance(trigger, Mapping) else [trigger or ""]
    longest = max(map(len, words), default=0)
    if longest > _LONGEST_TRIGGER:
        raise CaptionError(
            f"The trigger word has {how_many(longest, 'letter')}. A word or a few do, such as "
            f"'char1': at most {_LONGEST_TRIGGER:,} letters."
        )


def check_strategy(strategy: str) -> None:
    """Raise :class:`CaptionError` unless :func:`caption` can follow ``strategy``."""
    caption({}, "", strategy)


def _template_fields(strategy: str) -> list[str]:
    try:
        parts = [part for part in string.Formatter().parse(strategy) if part[1] is not None]
    except ValueError as error:
        raise CaptionError(
            f"The caption template '{strategy}' cannot be read: {error}. Write fields as "
            "{trigger}, and a brace as {{ or }}."
        ) from error
    fields = [str(name) for _, name, _, _ in parts]
    wide = next((name for _, name, width, _ in parts if width), None)
    if wide is not None:  # which could ask for gigabytes
        raise CaptionError(
            f"The caption template '{strategy}' says more of {{{wide}}} than its name. Write the "
            "field alone."
        )
    if not fields:
        raise CaptionError(
            f"Unknown caption strategy '{strategy}'. Use one of: {', '.join(STRATEGIES)}; or a "
            "template with fields, such as 'photo of {trigger}, {varies}'."
        )
    return fields


def _spoken(value: object) -> str:
    return "" if value is None else str(value).replace("_", " ").strip()


def _says(text: str, phrase: str) -> bool:
    return bool(phrase) and re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.I) is not None


def _joined(*parts: str | None) -> str:
    """Join by commas what is not empty and not said before."""
    said = ""
    for part in parts:
        text = _one_line(part or "").strip(" ,")
        if text and not _says(said, text):
            # A caption that begins with its trigger word keeps it once.
            said = (
                text if not said or text.startswith((said + ",", said + " ")) else f"{said}, {text}"
            )
    return said


def _one_line(text: str) -> str:
    return " ".join(text.split())
