"""Who is in the image: the sayable and the unsayable traits of a drawn person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import vocabulary

Color = tuple[float, float, float]

# Base colours, sRGB 0-255.
_SKIN: dict[str, Color] = {
    "fair": (228, 178, 150),
    "tan": (204, 152, 112),
    "brown": (160, 106, 72),
    "dark": (122, 78, 54),
}
_HAIR: dict[str, Color] = {
    "black": (38, 33, 36),
    "brown": (104, 64, 36),
    "blonde": (226, 190, 106),
    "red": (166, 66, 32),
    "gray": (168, 168, 174),
}
_EYES: dict[str, Color] = {
    "brown": (108, 60, 26),
    "blue": (52, 120, 206),
    "green": (44, 142, 66),
}


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are in units of half the face height, from hairline to chin.

    The first block can be said in a caption; the rest makes two people with equal captions look
    different, and one person look the same in every scene.
    """

    gender: str
    skin: str
    hair_color: str
    hair_style: str
    eye_color: str
    freckles: bool

    skin_rgb: Color
    hair_rgb: Color
    eye_rgb: Color
    lip_rgb: Color
    face_width: float
    jaw_width: float
    chin_width: float
    cheek_height: float
    eye_spacing: float
    eye_width: float
    eye_aspect: float
    eye_height: float
    eye_tilt: float
    brow_thickness: float
    brow_arch: float
    brow_gap: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip_fullness: float
    ear_size: float
    hair_volume: float
    hair_length: float
    parting: float
    fringe: float
    neck_width: float
    shoulder_width: float
    hair_seed: int
    freckle_pattern: tuple[tuple[float, float, float], ...]
    """Freckles as (x, y, radius) on the unrolled face; empty without freckles."""


def _jittered(rng: np.random.Generator, base: Color, light: float, tint: float) -> Color:
    gain = 1 + rng.uniform(-light, light)
    values = [float(np.clip(c * gain + rng.uniform(-tint, tint), 8, 250)) for c in base]
    return (values[0], values[1], values[2])


def _freckle_pattern(
    rng: np.random.Generator, count: int
) -> tuple[tuple[float, float, float], ...]:
    """Spread freckles over both cheeks and the nose, none on top of another."""
    spots: list[tuple[float, float, float]] = []
    for _ in range(600):
        if len(spots) >= count:
            break
        region = rng.random()
        if region < 0.2:
            x, y = rng.uniform(-0.12, 0.12), rng.uniform(-0.02, 0.2)
        else:
            x = rng.uniform(0.22, 0.6) * (1 if region < 0.6 else -1)
            y = rng.uniform(0.06, 0.37) - 0.12 * max(abs(x) - 0.4, 0)
        if all((x - a) ** 2 + (y - b) ** 2 > 0.175**2 for a, b, _ in spots):
            spots.append((float(x), float(y), float(rng.uniform(0.062, 0.074))))
    return tuple(spots)


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draw a random person.

    Args:
        rng: Source of randomness; the same state gives the same person.

    Returns:
        The person.
    """
    gender = str(rng.choice(vocabulary.GENDERS, p=[0.6, 0.4]))
    if gender == "woman":
        style_odds = [0.08, 0.19, 0.17, 0.17, 0.14, 0.13, 0.12]
    else:
        style_odds = [0.56, 0.24, 0.06, 0.10, 0.0, 0.04, 0.0]
    return make_identity(
        rng,
        gender=gender,
        skin=str(rng.choice(vocabulary.SKINS, p=[0.36, 0.26, 0.22, 0.16])),
        hair_color=str(rng.choice(vocabulary.HAIR_COLORS, p=[0.24, 0.24, 0.2, 0.2, 0.12])),
        hair_style=str(rng.choice(vocabulary.HAIR_STYLES, p=style_odds)),
        eye_color=str(rng.choice(vocabulary.EYE_COLORS)),
        freckles=bool(rng.random() < 0.4),
    )


def make_identity(
    rng: np.random.Generator,
    *,
    gender: str,
    skin: str,
    hair_color: str,
    hair_style: str,
    eye_color: str,
    freckles: bool,
) -> Identity:
    """Draw the unsayable traits of a person whose sayable traits are given.

    Args:
        rng: Source of randomness for everything that a caption does not say.
        gender: One of ``vocabulary.GENDERS``.
        skin: One of ``vocabulary.SKINS``.
        hair_color: One of ``vocabulary.HAIR_COLORS``.
        hair_style: One of ``vocabulary.HAIR_STYLES``.
        eye_color: One of ``vocabulary.EYE_COLORS``.
        freckles: Whether the face is freckled.

    Returns:
        The person.
    """
    woman = gender == "woman"
    u = rng.uniform
    skin_rgb = _jittered(rng, _SKIN[skin], 0.05, 7)
    red, green, blue = skin_rgb
    lip_red, lip_dark = (u(0.86, 1.0), u(0.5, 0.62)) if woman else (u(0.76, 0.86), u(0.6, 0.68))
    return Identity(
        gender=gender,
        skin=skin,
        hair_color=hair_color,
        hair_style=hair_style,
        eye_color=eye_color,
        freckles=freckles,
        skin_rgb=skin_rgb,
        hair_rgb=_jittered(rng, _HAIR[hair_color], 0.14, 8),
        eye_rgb=_jittered(rng, _EYES[eye_color], 0.15, 10),
        lip_rgb=(red * lip_red, green * lip_dark, blue * (lip_dark + 0.05)),
        face_width=u(0.68, 0.82) if woman else u(0.72, 0.86),
        jaw_width=u(0.68, 0.86) if woman else u(0.76, 0.93),
        chin_width=u(0.17, 0.3) if woman else u(0.24, 0.4),
        cheek_height=u(-0.05, 0.2),
        eye_spacing=u(0.335, 0.425),
        eye_width=u(0.192, 0.238) if woman else u(0.178, 0.22),
        eye_aspect=u(0.52, 0.72) if woman else u(0.48, 0.64),
        eye_height=u(-0.22, -0.08),
        eye_tilt=u(-0.22, 0.12),
        brow_thickness=u(0.035, 0.065) if woman else u(0.06, 0.095),
        brow_arch=u(0.02, 0.12) if woman else u(0.0, 0.07),
        brow_gap=u(0.17, 0.26),
        nose_length=u(0.36, 0.52),
        nose_width=u(0.11, 0.19) if woman else u(0.14, 0.22),
        mouth_width=u(0.23, 0.35),
        mouth_height=u(0.52, 0.64),
        lip_fullness=u(0.06, 0.1) if woman else u(0.045, 0.07),
        ear_size=u(0.17, 0.26),
        hair_volume=u(0.0, 0.14),
        hair_length=u(0.0, 1.0),
        parting=u(-0.6, 0.6),
        fringe=u(0.0, 1.0),
        neck_width=u(0.36, 0.44) if woman else u(0.46, 0.56),
        shoulder_width=u(1.35, 1.6) if woman else u(1.65, 1.95),
        hair_seed=int(rng.integers(2**31)),
        freckle_pattern=_freckle_pattern(rng, int(rng.integers(7, 11))) if freckles else (),
    )


def leading_character() -> Identity:
    """The gentle freckled character that the demonstration is about.

    Returns:
        Always the same woman: fair skin, wavy red hair, green eyes, clearly freckled.
    """
    return make_identity(
        np.random.default_rng(966989),
        gender="woman",
        skin="fair",
        hair_color="red",
        hair_style="wavy",
        eye_color="green",
        freckles=True,
    )
