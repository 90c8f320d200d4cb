"""What surrounds a person in one image: clothes, place, light, pose and expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import vocabulary


@dataclass(frozen=True)
class Scene:
    """One situation. The last block is jitter that captions do not say."""

    outfit: str
    outfit_color: str
    background: str
    light: str
    pose: str
    facing: str
    framing: str
    expression: str
    glasses: bool
    depth_of_field: bool = False

    shift_x: float = 0.0
    """Shift of the head in image widths."""
    shift_y: float = 0.0
    """Shift of the head in image heights."""
    zoom: float = 1.0
    """Factor on the face height that the framing gives."""
    tilt: float = 0.0
    """Roll of the head in radians."""
    turn: float = 0.5
    """Where in the pose's range of yaw the head stands, from 0 to 1."""
    background_seed: int = 0


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a random situation.

    Args:
        rng: Source of randomness; the same state gives the same scene.

    Returns:
        The scene.
    """

    def pick(values: tuple[str, ...], odds: list[float] | None = None) -> str:
        return str(rng.choice(values, p=odds))

    return Scene(
        outfit=pick(vocabulary.OUTFITS),
        outfit_color=pick(vocabulary.OUTFIT_COLORS),
        background=pick(vocabulary.BACKGROUNDS, [0.22, 0.13, 0.13, 0.13, 0.13, 0.13, 0.13]),
        light=pick(vocabulary.LIGHTS),
        pose=pick(vocabulary.POSES, [0.45, 0.35, 0.2]),
        facing=pick(vocabulary.FACINGS),
        framing=pick(vocabulary.FRAMINGS, [0.42, 0.38, 0.2]),
        expression=pick(vocabulary.EXPRESSIONS),
        glasses=bool(rng.random() < 0.22),
        depth_of_field=bool(rng.random() < 0.3),
        shift_x=float(rng.uniform(-0.05, 0.05)),
        shift_y=float(rng.uniform(-0.03, 0.03)),
        zoom=float(rng.uniform(0.94, 1.06)),
        tilt=float(rng.uniform(-0.1, 0.1)),
        turn=float(rng.random()),
        background_seed=int(rng.integers(2**31)),
    )
