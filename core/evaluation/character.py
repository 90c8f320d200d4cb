"""Whom a LoRA is of, in words."""

from __future__ import annotations

from dataclasses import dataclass

from ..dataset.facts import DatasetFacts, SubjectFacts
from .prompts import WHO


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

    @staticmethod
    def of(facts: DatasetFacts, trigger: str | None = None) -> Character:
        """Return whom a dataset is about: its first subject.

        Args:
            facts: What is known of the dataset. Its name is the trigger word, if nothing says
                another.
            trigger: The trigger word, if known otherwise (from the LoRA file).
        """
        subject = next(iter(facts.subjects), SubjectFacts())
        word = trigger or subject.trigger or subject.name or facts.name
        return Character(word, subject.class_word, subject.description)

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


def with_article(words: str) -> str:
    """Put an article before words that have none."""
    first = words.split(maxsplit=1)[0].lower() if words.strip() else ""
    if not first or first in ("a", "an", "the"):
        return words.strip()
    return f"{'an' if first[0] in 'aeiou' else 'a'} {words.strip()}"


def template_of(facts: DatasetFacts) -> str:
    """Return the form of a dataset's captions, with ``{who}`` and ``{scene}``."""
    text = facts.caption.replace("{trigger} {class_word}", WHO).replace("{trigger}", WHO)
    text = text.replace("{class_word}", "").replace("{scenario}", "{scene}")
    rest = text.replace(WHO, "").replace("{scene}", "")
    found = WHO in text and "{scene}" in text and "{" not in rest
    return text if found else f"portrait of {WHO}, {{scene}}"
