"""Exact captions: what a drawn portrait shows, in the words of the vocabulary."""

from __future__ import annotations

import numpy as np

from . import vocabulary
from .identity import Identity
from .scene import Scene


def attributes(identity: Identity, scene: Scene) -> dict[str, str]:
    """Name what the image of a person in a scene shows.

    Args:
        identity: Who is drawn.
        scene: Where and how.

    Returns:
        Attribute values by attribute name; freckles and glasses are "yes" or "no".
    """
    return {
        "gender": identity.gender,
        "skin": identity.skin,
        "hair": identity.hair_color,
        "hair_style": identity.hair_style,
        "eyes": identity.eye_color,
        "freckles": "yes" if identity.freckles else "no",
        "outfit": scene.outfit,
        "outfit_color": scene.outfit_color,
        "background": scene.background,
        "pose": scene.pose,
        "light": scene.light,
        "framing": scene.framing,
        "expression": scene.expression,
        "glasses": "yes" if scene.glasses else "no",
    }


def caption(
    identity: Identity,
    scene: Scene,
    rng: np.random.Generator | None = None,
    drop: float = 0.0,
) -> str:
    """Describe a portrait in comma-separated phrases, every one of them true.

    Args:
        identity: Who is drawn.
        scene: Where and how.
        rng: Shuffles the phrases after the first, chooses paraphrases and fillers. Without it the
            caption is the canonical one.
        drop: Probability with which each phrase after the first is left out; needs ``rng``.

    Returns:
        The caption, made of ``vocabulary.WORDS``.
    """

    def choose(variants: tuple[str, ...]) -> str:
        return variants[0] if rng is None else variants[int(rng.integers(len(variants)))]

    subject = identity.gender
    opening = vocabulary.OPENINGS[0]
    if rng is not None:
        if rng.random() < 0.25:
            subject = "person"
        # "professional headshot" and "artistic portrait" say something: keep them true.
        openings = [vocabulary.OPENINGS[0], vocabulary.OPENINGS[3]]
        if scene.outfit in ("blazer", "shirt"):
            openings.append(vocabulary.OPENINGS[1])
        if scene.outfit in ("robe", "armor") or scene.background == "magical aura":
            openings.append(vocabulary.OPENINGS[2])
        opening = openings[int(rng.integers(len(openings)))]
        if rng.random() < 0.3:
            opening = opening.removesuffix(" a")
    first = f"{opening} freckled {subject}" if identity.freckles else f"{opening} {subject}"

    outfit = choose(vocabulary.OUTFIT_PHRASES[scene.outfit]).format(scene.outfit_color)
    if rng is not None and rng.random() < 0.15:
        outfit = choose(vocabulary.OUTFIT_PLAIN_PHRASES[scene.outfit])
    phrases = [
        choose(vocabulary.HAIR_STYLE_PHRASES[identity.hair_style]).format(identity.hair_color),
        f"{identity.eye_color} eyes",
        f"{identity.skin} skin",
        outfit,
        choose(vocabulary.EXPRESSION_PHRASES[scene.expression]),
        choose(vocabulary.BACKGROUND_PHRASES[scene.background]),
        choose(vocabulary.LIGHT_PHRASES[scene.light]),
        choose(vocabulary.POSE_PHRASES[scene.pose]),
        choose(vocabulary.FRAMING_PHRASES[scene.framing]),
    ]
    if scene.glasses:
        phrases.append(choose(vocabulary.GLASSES_PHRASES))
    if scene.depth_of_field:
        phrases.append(vocabulary.DEPTH_OF_FIELD)
    if rng is not None:
        if rng.random() < 0.35:
            phrases.append(choose(vocabulary.PLAIN_FILLERS))
        fantasy = scene.outfit in ("robe", "armor") or scene.background == "magical aura"
        if fantasy and rng.random() < 0.5:
            phrases.append(choose(vocabulary.FANTASY_FILLERS))
        phrases = [phrase for phrase in phrases if rng.random() >= drop]
        phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    return ", ".join([first, *phrases])
