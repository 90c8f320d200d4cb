"""An antialiased canvas whose fourth channel remembers what is head, body and background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Color = tuple[float, float, float]

BACKGROUND, BODY, HEAD = 0, 128, 255
"""Values of the region channel."""

_SHIFT = 4
_CIRCLE = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_UNIT = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)

_STENCIL = np.array([-1, 0, 1, 2])
_T = np.linspace(0, 1, 6, endpoint=False)[:, None] ** np.arange(4)
_CATMULL_ROM = _T @ (
    0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=float)
)


@dataclass
class Canvas:
    """Pixels (side, side, 4) uint8, RGB and region, drawn in the units of a transform.

    ``origin`` is where (0, 0) lies in pixels, ``scale`` the pixels of a unit, ``roll`` in radians.
    """

    pixels: NDArray[np.uint8]
    origin: tuple[float, float]
    scale: float
    roll: float = 0.0
    region: int = BACKGROUND

    def __post_init__(self) -> None:
        c, s = np.cos(self.roll) * self.scale, np.sin(self.roll) * self.scale
        self._matrix = np.array([[c, s], [-s, c]])
        self._offset = np.array(self.origin)

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return self.pixels.shape[0]

    def view(self, origin: tuple[float, float], scale: float, roll: float, region: int) -> Canvas:
        """Return the same pixels under another transform and region."""
        return Canvas(self.pixels, origin, scale, roll, region)

    def to_pixels(self, points: Points) -> Points:
        """Map points (n, 2) of this canvas's units to pixels."""
        return points @ self._matrix + self._offset

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.rint(self.to_pixels(points) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Points, color: Color) -> None:
        """Fill a polygon given as (n, 2)."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], (*color, self.region), cv2.LINE_AA, _SHIFT)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, color: Color, angle: float = 0.0
    ) -> None:
        """Fill an ellipse around (x, y), its axes turned by ``angle`` radians."""
        self.polygon(ellipse_points(x, y, rx, ry, angle), color)

    def line(self, points: Points, color: Color, width: float, *, closed: bool = False) -> None:
        """Draw a polyline ``width`` units thick, at least one pixel."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(
            self.pixels,
            [self._fixed(points)],
            closed,
            (*color, self.region),
            thickness,
            cv2.LINE_AA,
            _SHIFT,
        )


def ellipse_points(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Return 28 points of an ellipse."""
    c, s = np.cos(angle), np.sin(angle)
    return _UNIT @ np.array([[c * rx, s * rx], [-s * ry, c * ry]]) + np.array([x, y])


def smooth(points: Sequence[tuple[float, float]] | Points, *, closed: bool = True) -> Points:
    """Return a Catmull-Rom curve through points, six steps a segment."""
    p = np.asarray(points, dtype=np.float64)
    n = len(p)
    index = np.arange(n if closed else n - 1)[:, None] + _STENCIL
    index = index % n if closed else np.clip(index, 0, n - 1)
    curve = (_CATMULL_ROM @ p[index]).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def tone(color: Color, gain: float, shift: float = 0.0) -> Color:
    """Return a colour made lighter or darker, and lifted by ``shift``."""
    r, g, b = color
    return (
        min(max(r * gain + shift, 0.0), 255.0),
        min(max(g * gain + shift, 0.0), 255.0),
        min(max(b * gain + shift, 0.0), 255.0),
    )


def mix(a: Color, b: Color, share: float) -> Color:
    """Return the colour ``share`` of the way from a to b."""
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )
