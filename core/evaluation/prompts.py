"""Prompts of an evaluation: the seed document's three, new ones from a vocabulary, or given ones.

A prompt names the person by the placeholder ``{who}``, so that the same scene can be asked for with
the trigger word, with the character's description, and with the class word alone.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..counts import how_many, worded
from ..errors import CuratorError
from ..plain_files import plain_text

WHO = "{who}"


class PromptError(CuratorError):
    """A list of prompts that can't be used."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with a place for the person.

    Attributes:
        text: With the placeholder ``{who}``.
        seeds: Noise seeds that it is made with; the evaluation's own if empty.
    """

    text: str
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if WHO not in self.text:
            raise PromptError(
                f"The prompt '{self.text}' has no {WHO}: say where the person's name goes, as in "
                f"'portrait of {WHO}, park background'."
            )

    def of(self, who: str) -> str:
        """Return the text about somebody; ``who`` may be empty."""
        parts = (" ".join(part.split()) for part in self.text.replace(WHO, who).split(","))
        return ", ".join(part for part in parts if part)


SEED_DOCUMENT = (
    Prompt(
        "portrait of {who}, casual hoodie, warm smile, golden hour lighting, depth of field, "
        "professional photography",
        (100, 101, 102),
    ),
    Prompt(
        "professional headshot of {who}, business casual, neutral background, studio lighting, "
        "high resolution",
        (200, 201, 202),
    ),
    Prompt(
        "artistic portrait of {who}, fantasy outfit, magical aura, dramatic lighting, "
        "fantasy art style",
        (300, 301, 302),
    ),
)
"""The seed-document recipe's three prompts, each with its three seeds."""

VOCABULARY: tuple[tuple[str, ...], ...] = (
    (
        "casual blue hoodie", "casual red hoodie", "green t-shirt", "yellow t-shirt",
        "purple sweater", "white shirt", "business casual gray blazer",
        "professional black blazer", "red dress", "blue dress", "purple fantasy robe",
    ),
    ("calm expression", "gentle smile", "warm smile", "laughing", "serious expression"),
    (
        "neutral background", "park background", "beach background", "city background",
        "grocery store background", "bar background",
    ),
    (
        "golden hour lighting", "studio lighting", "dramatic lighting", "soft daylight",
        "cool evening light",
    ),
    ("frontal view", "frontal view", "three-quarter view"),
    ("close-up", "bust"),
)  # fmt: skip
"""Outfit, expression, background, light, view and framing, in the seed document's words: what new
prompts are made of where the dataset names no scenarios. A phrase that stands there twice is
chosen twice as often."""


def vocabulary_of(scenes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Read a vocabulary off scenarios that say things in the same order.

    Scenarios are split at their commas; the n-th phrases of all of them are what can stand at the
    n-th place, as often as they occur. Phrases beyond the shortest scenario's are left out.

    Returns:
        A vocabulary; empty when there are fewer than two places, or only one way to fill them.
    """
    split = [[part.strip() for part in scene.split(",") if part.strip()] for scene in scenes]
    places = min((len(parts) for parts in split), default=0)
    found = tuple(tuple(parts[n] for parts in split) for n in range(places))
    ways = math.prod(len(set(place)) for place in found)
    return found if places >= 2 and ways > len(set(scenes)) else ()


def new_prompts(
    count: int,
    *,
    vocabulary: Sequence[Sequence[str]] = VOCABULARY,
    template: str = "portrait of {who}, {scene}",
    known: Iterable[str] = (),
    seed: int = 0,
) -> tuple[Prompt, ...]:
    """Make prompts that no training image had: a phrase from every place, drawn anew.

    The same arguments give the same prompts; more prompts begin with the fewer.

    Args:
        count: How many.
        vocabulary: For every place what can stand there.
        template: With ``{who}`` and ``{scene}``.
        known: Scenes (phrases joined by ``", "``) or whole captions that must not come again.
        seed: Of the draw.

    Raises:
        PromptError: The vocabulary has not so many new combinations.
    """
    taken = tuple(" ".join(scene.split()) for scene in known)
    used = set(taken)
    rng = random.Random(seed)  # noqa: S311
    prompts: list[Prompt] = []
    for _ in range(100 * count + 100):
        if len(prompts) == count:
            break
        scene = ", ".join(rng.choice(place) for place in vocabulary)
        if scene in used or any(scene in caption for caption in taken):
            continue
        used.add(scene)
        prompts.append(Prompt(template.replace("{scene}", scene)))
    if len(prompts) < count:
        raise PromptError(
            f"The vocabulary has only {how_many(len(prompts), 'scene that is', 'scenes that are')} "
            f"not in the training set, and {count:,} {worded(count, 'is', 'are')} wanted. Ask for "
            "fewer, or give a list of prompts."
        )
    return tuple(prompts)


def read_prompts(path: Path | str, trigger: str = "", class_word: str = "") -> tuple[Prompt, ...]:
    """Read a list of prompts: a line each; empty lines and lines with ``#`` in front do not count.

    The person is ``{who}``; a line may also say the trigger word itself (with the class word after
    it), which is taken for it.

    Raises:
        PromptError: The file can't be read, is empty, or a line names nobody.
    """
    try:
        lines = plain_text(Path(path).expanduser(), "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"The prompts {path} cannot be read: {error}. Name a text file, a prompt a line."
        ) from error
    prompts = []
    for number, line in enumerate(lines, 1):
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        if WHO not in text and trigger:
            person = re.escape(trigger) + (rf"(\s+{re.escape(class_word)})?" if class_word else "")
            text = re.sub(rf"(?<!\w){person}(?!\w)", WHO, text, count=1)
        if WHO not in text:
            raise PromptError(
                f"{path}, line {number}: '{text}' says neither {WHO} nor the trigger word "
                f"'{trigger}': put {WHO} where the person is named."
            )
        prompts.append(Prompt(text))
    if not prompts:
        raise PromptError(f"{path} holds no prompt. Write one a line, with {WHO} for the person.")
    return tuple(prompts)
