"""Short prompts: every value of every attribute, said alone, as zero-shot classification asks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import vocabulary

TEMPLATES = (
    "{}",
    "a portrait with {}",
    "portrait of a person, {}",
    "an image of {}",
    "photo, {}",
    "an image with {}",
    "a character with {}",
    "a drawing, {}",
)
"""Ways to ask for one thing. Some of their words are outside the vocabulary, on purpose."""

_Phrases = Mapping[str, tuple[str, ...]]


def _without_color(table: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {
        value: tuple(" ".join(phrase.replace("{}", "").split()) for phrase in phrases)
        for value, phrases in table.items()
    }


PHRASES: Mapping[str, _Phrases] = {
    "gender": {value: (value, f"a {value}") for value in vocabulary.GENDERS},
    "skin": {value: (f"{value} skin",) for value in vocabulary.SKINS},
    "hair": {value: (f"{value} hair",) for value in vocabulary.HAIR_COLORS},
    "hair_style": _without_color(vocabulary.HAIR_STYLE_PHRASES),
    "eyes": {value: (f"{value} eyes",) for value in vocabulary.EYE_COLORS},
    "freckles": {
        "yes": ("freckles", "freckled", "freckled skin"),
        "no": ("no freckles", "without freckles"),
    },
    "outfit": _without_color(vocabulary.OUTFIT_PHRASES),
    "outfit_color": {
        value: (f"{value} outfit", f"{value} clothes") for value in vocabulary.OUTFIT_COLORS
    },
    "background": vocabulary.BACKGROUND_PHRASES,
    "light": vocabulary.LIGHT_PHRASES,
    "pose": vocabulary.POSE_PHRASES,
    "framing": vocabulary.FRAMING_PHRASES,
    "expression": vocabulary.EXPRESSION_PHRASES,
    "glasses": {
        "yes": vocabulary.GLASSES_PHRASES,
        "no": (vocabulary.NO_GLASSES_PHRASE, "without glasses"),
    },
}
"""By attribute and value: what to say of it."""


def random_prompts(rng: np.random.Generator) -> dict[str, list[str]]:
    """Choose one phrase and one template for every value of every attribute.

    Args:
        rng: Chooses; the template is the same for all values of an attribute.

    Returns:
        By attribute, one prompt for each value in the order of ``PHRASES``.
    """
    chosen = {}
    for attribute, values in PHRASES.items():
        template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
        chosen[attribute] = [
            template.format(phrases[int(rng.integers(len(phrases)))]) for phrases in values.values()
        ]
    return chosen
