"""The words of the miniature world: what portraits can show and captions can say."""

from __future__ import annotations

import re

GENDERS = ("woman", "man")
SKINS = ("fair", "tan", "brown", "dark")
HAIR_COLORS = ("black", "brown", "blonde", "red", "gray")
HAIR_STYLES = ("short", "curly", "straight", "wavy", "bob", "bun", "braided")
EYE_COLORS = ("brown", "blue", "green")
OUTFITS = ("hoodie", "t-shirt", "blazer", "shirt", "dress", "sweater", "robe", "armor")
OUTFIT_COLORS = ("red", "blue", "green", "yellow", "purple", "black", "white", "gray")
BACKGROUNDS = ("neutral", "park", "beach", "city", "grocery store", "bar", "magical aura")
LIGHTS = ("golden hour", "studio", "dramatic", "soft daylight", "cool evening")
POSES = ("frontal", "three-quarter", "profile")
FACINGS = ("left", "right")
FRAMINGS = ("close-up", "bust", "half body")
EXPRESSIONS = ("calm", "gentle smile", "warm smile", "laughing", "serious")

HAIR_STYLE_PHRASES = {
    "short": ("short {} hair",),
    "curly": ("curly {} hair",),
    "straight": ("long straight {} hair", "straight {} hair"),
    "wavy": ("long wavy {} hair", "wavy {} hair"),
    "bob": ("bob cut {} hair", "{} bob haircut"),
    "bun": ("{} hair in a bun", "{} hair bun"),
    "braided": ("braided {} hair", "{} hair in braids"),
}
OUTFIT_PHRASES = {
    "hoodie": ("{} hoodie", "casual {} hoodie"),
    "t-shirt": ("{} t-shirt", "casual {} t-shirt"),
    "blazer": ("{} blazer", "business casual {} blazer", "professional {} blazer"),
    "shirt": ("{} shirt", "{} shirt with collar"),
    "dress": ("{} dress",),
    "sweater": ("{} sweater", "{} turtleneck sweater"),
    "robe": ("{} fantasy robe", "fantasy outfit with {} robe"),
    "armor": ("{} fantasy armor", "fantasy outfit with {} armor"),
}
OUTFIT_PLAIN_PHRASES = {
    "hoodie": ("casual hoodie", "hoodie", "casual outfit"),
    "t-shirt": ("casual t-shirt", "t-shirt", "casual outfit"),
    "blazer": ("business casual", "business casual blazer"),
    "shirt": ("shirt", "business casual shirt"),
    "dress": ("dress",),
    "sweater": ("casual sweater", "turtleneck sweater"),
    "robe": ("fantasy outfit", "fantasy robe"),
    "armor": ("fantasy outfit", "fantasy armor"),
}
"""Phrases that leave the colour of an outfit open."""
BACKGROUND_PHRASES = {
    "neutral": ("neutral background", "plain background"),
    "park": ("park background", "outdoor park background", "in a park"),
    "beach": ("beach background", "outdoor beach background", "at the beach"),
    "city": ("city background", "outdoor city background", "city street"),
    "grocery store": ("grocery store background", "grocery store shelves", "in a grocery store"),
    "bar": ("bar background", "in a bar", "bar with warm light"),
    "magical aura": ("magical aura", "magical aura background"),
}
LIGHT_PHRASES = {
    "golden hour": ("golden hour lighting", "warm golden hour light"),
    "studio": ("studio lighting",),
    "dramatic": ("dramatic lighting",),
    "soft daylight": ("soft daylight", "natural daylight"),
    "cool evening": ("cool evening light", "evening lighting"),
}
POSE_PHRASES = {
    "frontal": ("frontal view", "front view"),
    "three-quarter": ("three-quarter view",),
    "profile": ("profile view", "side view"),
}
FRAMING_PHRASES = {
    "close-up": ("close-up", "close-up portrait"),
    "bust": ("bust", "head and shoulders"),
    "half body": ("half body", "half body portrait"),
}
EXPRESSION_PHRASES = {
    "calm": ("calm expression", "neutral expression"),
    "gentle smile": ("gentle smile", "subtle smile"),
    "warm smile": ("warm smile", "friendly smile"),
    "laughing": ("laughing", "laughing expression"),
    "serious": ("serious expression", "serious look"),
}
GLASSES_PHRASES = ("glasses", "wearing glasses")
NO_GLASSES_PHRASE = "no glasses"
FRECKLED = ("freckled", "gentle freckled")
DEPTH_OF_FIELD = "depth of field"
OPENINGS = ("portrait of a", "professional headshot of a", "artistic portrait of a", "photo of a")
PLAIN_FILLERS = ("professional photography", "high resolution", "detailed")
FANTASY_FILLERS = ("fantasy art style",)
SUBJECT_WORDS = (*GENDERS, "person", "character")


def split_words(caption: str) -> list[str]:
    """Split a caption into lower-case words; commas separate, hyphens stay inside a word.

    Args:
        caption: Comma-separated phrases.

    Returns:
        The words in their order.
    """
    return caption.lower().replace(",", " ").split()


def _all_words() -> tuple[str, ...]:
    phrases: list[str] = [
        *OPENINGS,
        *PLAIN_FILLERS,
        *FANTASY_FILLERS,
        *SUBJECT_WORDS,
        *FRECKLED,
        *GLASSES_PHRASES,
        *HAIR_COLORS,
        *OUTFIT_COLORS,
        *FACINGS,
        NO_GLASSES_PHRASE,
        DEPTH_OF_FIELD,
        "of",
        "an",
    ]
    phrases += [f"{color} eyes" for color in EYE_COLORS]
    phrases += [f"{skin} skin" for skin in SKINS]
    for table in (
        HAIR_STYLE_PHRASES,
        OUTFIT_PHRASES,
        OUTFIT_PLAIN_PHRASES,
        BACKGROUND_PHRASES,
        LIGHT_PHRASES,
        POSE_PHRASES,
        FRAMING_PHRASES,
        EXPRESSION_PHRASES,
    ):
        for key, variants in table.items():
            phrases += [key, *(variant.format("") for variant in variants)]
    words = {word for phrase in phrases for word in split_words(phrase)}
    # A CLIP tokenizer splits at hyphens, so the parts of hyphenated words are words too.
    words |= {part for word in words for part in re.findall(r"[a-z]+", word)}
    return tuple(sorted(words))


WORDS: tuple[str, ...] = _all_words()
"""Every word that a caption can contain, and the parts of the hyphenated ones; sorted."""
