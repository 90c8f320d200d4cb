"""The shape of a turned head: where a trait of the frontal face lies once it is rotated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..identity import Identity
from ..scene import Scene
from .canvas import Points, smooth

_YAW = {"frontal": (-0.1, 0.1), "three-quarter": (0.34, 0.48), "profile": (0.68, 0.8)}
"""Yaw in radians by pose, before the sign that ``facing`` gives."""

_DEPTH = 0.46
"""Depth of the face's front above the axis of rotation, in half face heights."""


@dataclass(frozen=True)
class Head:
    """A head turned by ``yaw`` (positive: to the image's right); units of half a face height."""

    identity: Identity
    yaw: float

    @property
    def width(self) -> float:
        """Half the width of the frontal face."""
        return self.identity.face_width

    def depth(self, x: float) -> float:
        """Return how far before the axis the surface lies at a frontal x."""
        return _DEPTH * (1 - 0.55 * min(abs(x) / self.width, 1.2) ** 2)

    def x(self, x: float, depth: float | None = None) -> float:
        """Return where a frontal x of the surface (or of a given depth) is seen."""
        z = self.depth(x) if depth is None else depth
        return float(x * np.cos(self.yaw) + z * np.sin(self.yaw))

    def foreshortening(self, x: float) -> float:
        """Return the factor by which widths at a frontal x shrink."""
        slope = -2 * 0.55 * _DEPTH * x / self.width**2
        return float(max(np.cos(self.yaw) + slope * np.sin(self.yaw), 0.2))

    def outline(self) -> Points:
        """Return the silhouette of the face, from the forehead round the chin; closed."""
        i = self.identity
        w = self.width
        cheek = i.cheek_height
        right = [
            (0.34 * w, -1.02),
            (0.76 * w, -0.82),
            (0.96 * w, -0.45),
            (w, cheek - 0.05),
            ((1 + i.jaw_width) / 2 * w, cheek + 0.32),
            (i.jaw_width * w * 0.96, 0.58),
            ((i.jaw_width * 0.45 + i.chin_width * 0.75) * w, 0.84),
            (i.chin_width * w, 0.98),
        ]
        frontal = [*right, (0.0, 1.01), *[(-x, y) for x, y in reversed(right)]]
        turned = []
        for x, y in frontal:
            side = min(abs(x) / w, 1.0)
            far = x * self.yaw > 0
            # The far edge is the bulge of cheek and brow; the near edge runs at the ear.
            z_side = (0.3 if far else 0.0) if abs(self.yaw) > 0 else 0.15
            z = (0.36 if y > 0 else 0.3) * (1 - side**1.5) + z_side * side**1.5
            turned.append((float(x * np.cos(self.yaw) + z * np.sin(self.yaw)), y))
        return smooth(turned)

    def ear(self, side: int) -> tuple[float, float]:
        """Return the centre of the ear on a side of the image (-1 left, 1 right)."""
        return self.x(side * self.width * 1.03, -0.02), 0.02

    def skull(self, volume: float = 0.0) -> tuple[float, float, float, float]:
        """Return centre x, centre y and radii of the skull with hair of some volume."""
        w = self.width
        turn = abs(float(np.sin(self.yaw)))
        far = max(abs(self.x(t * w * np.sign(self.yaw or 1.0))) for t in (0.6, 0.8, 1.0))
        far = max(far, w * (1 - 0.22 * turn)) + volume * (1 - 0.35 * turn) + 0.03
        near = w * (1.03 + 0.1 * turn) + volume
        sign = 1.0 if self.yaw >= 0 else -1.0
        return float(sign * (far - near) / 2), -0.34, float((far + near) / 2), 0.9 + volume


def make_head(identity: Identity, scene: Scene) -> Head:
    """Turn a person's head as a scene asks.

    Args:
        identity: Whose head.
        scene: Gives pose, facing and the place in the pose's range.

    Returns:
        The turned head.
    """
    low, high = _YAW[scene.pose]
    yaw = low + (high - low) * scene.turn
    return Head(identity, yaw if scene.facing == "right" else -yaw)
