"""The seven places behind a person."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Color, smooth, tone

_GOODS: tuple[Color, ...] = (
    (214, 52, 48),
    (240, 186, 44),
    (54, 150, 80),
    (52, 104, 200),
    (236, 236, 230),
    (236, 124, 42),
    (150, 70, 160),
)


def draw_background(
    side: int, name: str, rng: np.random.Generator, *, blurred: bool
) -> NDArray[np.uint8]:
    """Paint a place.

    Args:
        side: Height and width in pixels.
        name: One of the vocabulary's backgrounds.
        rng: Arranges the things that stand around.
        blurred: Paint it out of focus.

    Returns:
        Pixels (side, side, 4) uint8, RGB and an empty region channel.
    """
    # Out of focus, half the resolution does.
    drawn = side // 2 if blurred else side
    pixels = np.zeros((drawn, drawn, 4), np.uint8)
    _PLACES[name](Canvas(pixels, (0.0, 0.0), float(drawn)), rng)
    blurry = cv2.GaussianBlur(pixels, (0, 0), drawn * (0.022 if blurred else 0.008))
    if blurred:
        blurry = cv2.resize(blurry, (side, side))
    pixels = np.asarray(blurry, dtype=np.uint8)
    pixels[..., 3] = 0
    return pixels


def _gradient(canvas: Canvas, top: Color, bottom: Color) -> None:
    t = np.linspace(0, 1, canvas.side)[:, None, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t
    canvas.pixels[..., :3] = rows


def _box(canvas: Canvas, x: float, y: float, w: float, h: float, color: Color) -> None:
    canvas.polygon(np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]), color)


def _neutral(canvas: Canvas, rng: np.random.Generator) -> None:
    level = rng.uniform(0.75, 1.15)
    side = canvas.side
    axis = np.linspace(-1, 1, side)
    glow = np.exp(-(axis[:, None] ** 2 + (axis[None, :] - rng.uniform(-0.3, 0.3)) ** 2) * 1.1)
    base = np.array([84.0, 86.0, 92.0]) * level
    canvas.pixels[..., :3] = np.clip(base + glow[..., None] * 128, 0, 255)


def _park(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (132, 190, 240), (222, 238, 246))
    _box(canvas, -0.1, 0.56, 1.2, 0.6, (104, 168, 62))
    for x in np.linspace(-0.02, 1.02, 5):
        y, r = 0.4 + rng.uniform(-0.12, 0.06), rng.uniform(0.15, 0.21)
        _box(canvas, x - 0.02, y, 0.045, 0.3, (96, 64, 38))
        green: Color = (rng.uniform(24, 60), rng.uniform(92, 136), rng.uniform(30, 56))
        canvas.ellipse(x, y, r, r * 0.9, green)
        canvas.ellipse(x - 0.04, y - 0.06, r * 0.5, r * 0.45, tone(green, 1.4))


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (84, 168, 236), (206, 234, 248))
    horizon = rng.uniform(0.44, 0.52)
    _box(canvas, -0.1, horizon, 1.2, 0.3, (26, 112, 172))
    for k in range(3):
        y = horizon + 0.05 + 0.066 * k
        xs = np.linspace(0, 1, 12)
        canvas.line(np.stack([xs, y + 0.012 * np.sin(xs * 14 + k * 2)], 1), (120, 190, 222), 0.02)
    _box(canvas, -0.1, horizon + 0.23, 1.2, 0.6, (238, 212, 152))
    canvas.line(np.array([(0, horizon + 0.23), (1, horizon + 0.23)]), (250, 250, 250), 0.022)
    sx = rng.choice([0.12, 0.88])
    canvas.ellipse(sx, 0.14, 0.075, 0.075, (255, 244, 180))
    for _ in range(3):
        x, y = rng.uniform(0, 1), rng.uniform(0.06, 0.34)
        for dx in (-0.06, 0, 0.06):
            canvas.ellipse(x + dx, y, 0.07, 0.03, (250, 252, 255))


def _city(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (150, 184, 222), (226, 228, 232))
    x = -0.05
    while x < 1.05:
        w, top = rng.uniform(0.22, 0.3), rng.uniform(0.06, 0.4)
        level = rng.uniform(0.6, 1.15)
        wall: Color = (104 * level, 106 * level, 120 * level)
        _box(canvas, x, top, w, 1.2, wall)
        glass = (250, 226, 150) if rng.random() < 0.4 else (58, 74, 104)
        for wy in np.arange(top + 0.05, 0.84, 0.13):
            for wx in np.arange(x + 0.035, x + w - 0.05, 0.09):
                _box(canvas, wx, wy, 0.052, 0.075, glass)
        x += w + 0.01
    _box(canvas, -0.1, 0.86, 1.2, 0.3, (86, 86, 92))


def _grocery(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (232, 230, 222), (198, 194, 184))
    for shelf in range(3):
        base = 0.33 + 0.34 * shelf
        _box(canvas, -0.1, base - 0.31, 1.2, 0.31, (92, 80, 70))
        x = -0.03
        while x < 1.02:
            w, h = rng.uniform(0.12, 0.17), rng.uniform(0.18, 0.26)
            goods = _GOODS[int(rng.integers(len(_GOODS)))]
            _box(canvas, x, base - h, w, h, goods)
            x += w + 0.012
        _box(canvas, -0.1, base, 1.2, 0.03, (238, 236, 230))


def _bar(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (72, 42, 26), (46, 26, 18))
    for shelf in (0.34, 0.66):
        x = 0.01
        while x < 1.0:
            w, h = rng.uniform(0.085, 0.115), rng.uniform(0.2, 0.26)
            glass = ((176, 98, 30), (60, 110, 56), (214, 160, 60), (150, 40, 36), (120, 150, 160))
            color: Color = glass[int(rng.integers(5))]
            _box(canvas, x, shelf - h * 0.65, w, h * 0.65, color)
            _box(canvas, x + w * 0.32, shelf - h, w * 0.36, h * 0.4, tone(color, 0.8))
            x += w + rng.uniform(0.03, 0.05)
        _box(canvas, -0.1, shelf, 1.2, 0.03, (142, 88, 44))
    _box(canvas, -0.1, 0.84, 1.2, 0.3, (112, 64, 32))
    for x in (0.14, 0.5, 0.86):
        y = rng.uniform(0.05, 0.11)
        canvas.ellipse(x, y, 0.085, 0.085, (190, 112, 40))
        canvas.ellipse(x, y, 0.05, 0.05, (255, 226, 150))


def _aura(canvas: Canvas, rng: np.random.Generator) -> None:
    _gradient(canvas, (34, 16, 76), (66, 22, 104))
    side = canvas.side
    axis = np.linspace(0, 1, side)
    cy = 0.42
    d = np.sqrt((axis[None, :] - 0.5) ** 2 + (axis[:, None] - cy) ** 2)
    ring = np.exp(-(((d - 0.36) / 0.1) ** 2))[..., None]
    glow = np.array([96.0, 130.0, 180.0]) * ring
    canvas.pixels[..., :3] = np.clip(canvas.pixels[..., :3] + glow, 0, 255)
    for k in range(2):
        start, r = rng.uniform(0, 6.28), 0.34 + 0.12 * k
        arc = [
            (
                0.5 + (r + 0.03 * n / 8) * np.cos(start + n * 0.28),
                cy + (r + 0.03 * n / 8) * np.sin(start + n * 0.28),
            )
            for n in range(9)
        ]
        canvas.line(smooth(np.array(arc), closed=False), (190, 150, 250), 0.03)
    for _ in range(9):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.018, 0.032)
        canvas.ellipse(x, y, r * 1.8, r * 1.8, (120, 80, 200))
        canvas.ellipse(x, y, r, r, (232, 220, 255))


_PLACES = {
    "neutral": _neutral,
    "park": _park,
    "beach": _beach,
    "city": _city,
    "grocery store": _grocery,
    "bar": _bar,
    "magical aura": _aura,
}
