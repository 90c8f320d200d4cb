"""Five lights: shading of head, body and ground, and the tint of the whole."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Darkening from the light's side of the picture to the other."""


_LIGHTS = {
    "golden hour": _Light((1.13, 0.95, 0.66), (0.62, -0.3, 0.72), 0.58, 0.56, 0.95, 0.22),
    "studio": _Light((1.03, 1.03, 1.04), (0.2, -0.35, 0.92), 0.6, 0.48, 1.06, 0.0),
    "dramatic": _Light((1.04, 1.0, 0.95), (0.9, -0.15, 0.42), 0.32, 0.86, 0.5, 0.55),
    "soft daylight": _Light((0.99, 1.01, 1.03), (0.0, -0.6, 0.8), 0.72, 0.32, 1.04, 0.0),
    "cool evening": _Light((0.72, 0.86, 1.12), (0.4, -0.3, 0.86), 0.56, 0.46, 0.74, 0.12),
}


def apply_light(canvas: Canvas, name: str, side: int) -> NDArray[np.uint8]:
    """Light the drawn picture.

    Args:
        canvas: Drawn pixels under the head's transform; its region channel says what is head.
        name: One of the vocabulary's lights.
        side: +1 when the light comes from the picture's right, -1 from its left.

    Returns:
        RGB pixels (side, side, 3) uint8.
    """
    light = _LIGHTS[name]
    n = canvas.side
    region = canvas.pixels[..., 3].astype(np.float32)
    head = np.clip(region / 127.0 - 1.0, 0, 1)
    body = np.minimum(region / 128.0, 1) - head
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
    lit = canvas.pixels[..., :3] * gain[..., None] * np.array(light.tint, np.float32)
    return np.clip(lit, 0, 255).astype(np.uint8)
