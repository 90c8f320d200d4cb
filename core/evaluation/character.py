"""Whom a LoRA is of, and how images of the training set were made."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .prompts import VOCABULARY, WHO, vocabulary_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Character:
    """A character, in words.

    Attributes:
        trigger: The word that the LoRA has learnt.
        class_word: What the character is, such as "woman".
        description: How the character looks, for a model that does not know the trigger.
    """

    trigger: str
    class_word: str = "person"
    description: str = ""

    @property
    def with_trigger(self) -> str:
        """The character as the captions name it."""
        return f"{self.trigger} {self.class_word}".strip()

    @property
    def described(self) -> str:
        """The character in plain words."""
        return with_article(self.description or self.class_word)

    @property
    def of_class(self) -> str:
        """Somebody of the character's kind, whoever it is."""
        return with_article(self.class_word)

    @property
    def as_anybody(self) -> dict[str, str]:
        """By what captions call the character, what they would call somebody of its kind."""
        return dict.fromkeys((self.with_trigger, self.trigger), self.of_class)


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset's ``recipe.toml`` says of how it was made; defaults where it says nothing."""

    character: Character
    template: str = f"portrait of {WHO}, {{scene}}"
    """The captions' form, with ``{who}`` and ``{scene}``."""
    scenes: tuple[str, ...] = ()
    """What the scenarios ask for."""
    vocabulary: tuple[tuple[str, ...], ...] = VOCABULARY
    model: Mapping[str, Any] = field(default_factory=dict)
    """The base model and its sampling: ``path, scheduler, steps, guidance, width, height``."""
    faces: str = "buffalo_l"
    """insightface pack."""
    clip: tuple[str, str] = ("ViT-B-32", "")
    """open_clip model and weights."""
    minimum_quality: float = 0.74
    minimum_confidence: float = 0.85
    duplicates: float = 0.98
    """Cosine from which on two images count as one."""


def read_facts(dataset: Path, trigger: str | None = None) -> DatasetFacts:
    """Read what is known of a dataset.

    Args:
        dataset: Its folder.
        trigger: The trigger word, if known otherwise (from the LoRA file).
    """
    try:
        recipe = tomllib.loads((dataset / "recipe.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        recipe = {}
    # The recipe of a graph holds its plan, subjects included, as one table.
    return facts_of({**_table(recipe, "plan"), **recipe}, dataset.name, trigger)


def facts_of(recipe: Mapping[str, Any], name: str, trigger: str | None = None) -> DatasetFacts:
    """Take what is known of a dataset from its recipe.

    Args:
        recipe: A project as nested tables; may be empty.
        name: What the dataset is called: the trigger word, if nothing says another.
        trigger: The trigger word, if known otherwise.
    """
    subject = next(iter(_list(recipe, "subjects")), {})
    known = str(subject.get("trigger") or subject.get("name") or name)
    character = Character(
        trigger or known,
        str(subject.get("class_word") or "person"),
        str(subject.get("description") or ""),
    )
    entries = [*_list(recipe, "scenarios"), *_list(recipe, "originals")]
    scenes = tuple(str(e["prompt"]) for e in entries if "{" not in str(e.get("prompt", "{")))
    faces, clip = _table(recipe, "faces"), _table(recipe, "clip")
    default = DatasetFacts(character)
    return replace(
        default,
        template=_template(str(_table(recipe, "plan").get("caption", ""))) or default.template,
        scenes=scenes,
        vocabulary=vocabulary_of(scenes) or VOCABULARY,
        model=_table(recipe, "model"),
        faces=str(faces.get("pack") or default.faces),
        clip=(str(clip.get("model") or default.clip[0]), str(clip.get("pretrained") or "")),
        minimum_quality=float(_table(recipe, "quality").get("minimum", default.minimum_quality)),
        minimum_confidence=float(faces.get("minimum_confidence", default.minimum_confidence)),
        duplicates=float(_table(recipe, "duplicates").get("threshold", default.duplicates)),
    )


def read_captions(dataset: Path) -> tuple[str, ...]:
    """Return the captions beside a dataset's images, in the order of the files' names."""
    texts = []
    for path in sorted(dataset.glob("*.txt")):
        try:
            texts.append(" ".join(path.read_text(encoding="utf-8", errors="replace").split()))
        except OSError:
            continue  # a caption that can't be read can't be repeated either
    return tuple(filter(None, texts))


def with_article(words: str) -> str:
    """Put an article before words that have none."""
    first = words.split(maxsplit=1)[0].lower() if words.strip() else ""
    if not first or first in ("a", "an", "the"):
        return words.strip()
    return f"{'an' if first[0] in 'aeiou' else 'a'} {words.strip()}"


def _template(caption: str) -> str:
    """Turn a plan's caption template into one of prompts; empty if it can't be."""
    text = caption.replace("{trigger} {class_word}", WHO).replace("{trigger}", WHO)
    text = text.replace("{class_word}", "").replace("{scenario}", "{scene}")
    rest = text.replace(WHO, "").replace("{scene}", "")
    return text if WHO in text and "{scene}" in text and "{" not in rest else ""


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _list(values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = values.get(name)
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
