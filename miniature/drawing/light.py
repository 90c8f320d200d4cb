"""Five lights: shading of head, body and ground, and the tint of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas


@dataclass(frozen=True)
class _Light:
    tint: tuple[float, float, float]
    """Gain of red, green and blue."""
    direction: tuple[float, float, float]
    """To the light: right (mirrored by the scene's side), down, towards the viewer."""
    ambient: float
    diffuse: float
    ground: float
    """Gain of the background."""
    slope: float
    """Darkening from the light's side of the image to the other."""


_LIGHTS = {
    "golden hour": _Light((1.12, 0.98, 0.8), (0.62, -0.3, 0.72), 0.58, 0.56, 0.95, 0.22),
    "studio": _Light((1.02, 1.02, 1.02), (0.25, -0.4, 0.88), 0.48, 0.56, 1.06, 0.0),
    "dramatic": _Light((1.04, 1.0, 0.95), (0.9, -0.15, 0.42), 0.36, 0.86, 0.6, 0.6),
    "soft daylight": _Light((1.02, 1.01, 1.0), (0.0, -0.6, 0.8), 0.6, 0.42, 1.04, 0.0),
    "cool evening": _Light((0.86, 0.94, 1.09), (0.4, -0.3, 0.86), 0.58, 0.46, 0.7, 0.12),
}


def _tone_curve() -> NDArray[np.uint8]:
    """Return a film-like curve: steeper in the middle, rolling off above white."""
    x = np.arange(384) / 255.0
    raised = 1.36 * (x - 0.45) + 0.45
    shoulder = 0.8 + 0.2 * (1 - np.exp(-np.clip(raised - 0.8, 0, None) / 0.2))
    toe = 0.06 * np.exp(np.clip(raised - 0.06, None, 0) / 0.06)
    curve = np.where(raised > 0.8, shoulder, np.where(raised < 0.06, toe, raised))
    return np.clip(curve * 255, 0, 255).astype(np.uint8)


_CURVE = _tone_curve()


def apply_light(canvas: Canvas, name: str, side: int) -> NDArray[np.uint8]:
    """Light the drawn image and raise its contrast.

    Args:
        canvas: Drawn pixels under the head's transform; its region channel says what is head.
        name: One of the vocabulary's lights.
        side: +1 when the light comes from the image's right, -1 from its left.

    Returns:
        RGB pixels (side, side, 3) uint8.
    """
    light = _LIGHTS[name]
    n = canvas.side
    drawn = canvas.pixels.astype(np.float32)
    region = drawn[..., 3]
    head = np.clip(region / 127.0 - 1.0, 0, 1)
    # Antialiased edges of the head pass through the body's value: keep only what is wide.
    body = cv2.morphologyEx(
        np.minimum(region / 128.0, 1) - head, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    axis = np.arange(n, dtype=np.float32)
    x = (axis[None, :] - canvas.origin[0]) / canvas.scale
    y = (axis[:, None] - canvas.origin[1]) / canvas.scale
    lx, ly, lz = light.direction
    lx *= side
    # The head as an ellipsoid, the body as a cylinder (Lambert's law).
    nx, ny = x / 1.12, (y + 0.12) / 1.5
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.02, 1))
    norm = 1 / np.sqrt(nx**2 + ny**2 + nz**2)
    lambert = np.clip((nx * lx + ny * ly + nz * lz) * norm, 0, None)
    head_gain = light.ambient + light.diffuse * 1.1 * lambert
    bx = np.clip(x / 2.3, -0.98, 0.98)
    body_lambert = np.clip(bx * lx + np.sqrt(1 - bx**2) * lz + 0.1, 0, None)
    body_gain = light.ambient + light.diffuse * body_lambert + 0 * y
    across = (axis[None, :] / n - 0.5) * -side
    ground_gain = light.ground * (1 - light.slope * across)
    gain = head * head_gain + body * body_gain + (1 - head - body) * ground_gain
    lit = drawn[..., :3] * gain[..., None] * np.array(light.tint, np.float32)
    return _CURVE[np.clip(lit, 0, 383).astype(np.int16)]
