"""Neck, shoulders and the eight outfits."""

from __future__ import annotations

import numpy as np

from ..identity import Identity
from .canvas import Canvas, Color, Points, mix, smooth, tone

OUTFIT_RGB: dict[str, Color] = {
    "red": (204, 38, 44),
    "blue": (40, 84, 200),
    "green": (36, 140, 70),
    "yellow": (238, 196, 40),
    "purple": (130, 54, 176),
    "black": (38, 38, 44),
    "white": (240, 240, 240),
    "gray": (142, 144, 150),
}
_GOLD: Color = (232, 190, 74)


def draw_body(
    canvas: Canvas, identity: Identity, outfit: str, color_name: str, lean: float
) -> None:
    """Draw neck, shoulders and clothes in the head's units, unrolled.

    Args:
        canvas: Where to draw; (0, 0) is the centre of the face.
        identity: Gives skin, neck and shoulders.
        outfit: One of the vocabulary's outfits.
        color_name: Its colour.
        lean: Shift of the neck's upper end towards where the head is turned.
    """
    color = OUTFIT_RGB[color_name]
    half = identity.shoulder_width
    skin = identity.skin_rgb
    torso = _torso(half, 1.12 if outfit in ("hoodie", "robe", "armor") else 1.0)
    edge = _edge(color)
    if outfit == "hoodie":
        canvas.ellipse(0.0, 1.28, 0.98, 0.52, edge)
        canvas.ellipse(0.0, 1.24, 0.9, 0.46, tone(color, 0.72))
    if outfit == "robe":
        collar = np.array(
            [(-0.95, 0.75), (-0.4, 1.7), (0.4, 1.7), (0.95, 0.75), (0.7, 1.9), (-0.7, 1.9)]
        )
        canvas.polygon(collar, tone(color, 0.75))
        canvas.line(collar, _GOLD, 0.05, closed=True)
    canvas.polygon(torso, color)
    _folds(canvas, half, color)
    _neck(canvas, identity, lean)
    _OUTFITS[outfit](canvas, half, color, skin)


def _edge(color: Color) -> Color:
    return tone(color, 1.0, 70) if sum(color) < 150 else tone(color, 0.55)


def _torso(half: float, bulk: float) -> Points:
    h = half * bulk
    right = [(0.42, 1.3), (0.85, 1.48), (h * 0.82, 1.68), (h, 2.0), (h * 1.06, 2.8), (h * 1.1, 5.5)]
    return smooth([*[(-x, y) for x, y in right[::-1]], *right], closed=False)


def _folds(canvas: Canvas, half: float, color: Color) -> None:
    shade, light = tone(color, 0.68), tone(color, 1.12, 26)
    for side in (-1, 1):
        canvas.line(
            smooth(
                [(side * half * 0.66, 2.3), (side * half * 0.7, 3.2), (side * half * 0.64, 5.0)],
                closed=False,
            ),
            shade,
            0.075,
        )
        canvas.line(
            smooth(
                [(side * half * 0.9, 2.0), (side * half * 0.94, 2.8), (side * half * 0.9, 4.0)],
                closed=False,
            ),
            light,
            0.07,
        )


def _neck(canvas: Canvas, identity: Identity, lean: float) -> None:
    n = identity.neck_width
    skin = identity.skin_rgb
    canvas.polygon(
        smooth(
            [
                (-n + lean, 0.5),
                (n + lean, 0.5),
                (n, 1.2),
                (n + 0.25, 1.5),
                (0.0, 1.72),
                (-n - 0.25, 1.5),
                (-n, 1.2),
            ]
        ),
        tone(skin, 0.86),
    )
    canvas.polygon(
        smooth([(-n + lean, 0.5), (n + lean, 0.5), (n, 1.02), (lean, 1.24), (-n, 1.02)]),
        tone(skin, 0.6),
    )


def _hoodie(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    edge, light = _edge(color), tone(color, 1.1, 24)
    for s in (-1, 1):
        flap = smooth(
            [
                (s * 0.9, 1.1),
                (s * 0.55, 1.3),
                (s * 0.12, 1.85),
                (s * 0.3, 1.95),
                (s * 0.8, 1.6),
                (s * 1.02, 1.3),
            ]
        )
        canvas.polygon(flap, light)
        canvas.line(flap, edge, 0.045, closed=True)
        canvas.line(np.array([(s * 0.2, 1.8), (s * 0.24, 2.6)]), (246, 246, 240), 0.07)
    pocket = np.array([(-0.75, 4.0), (-0.5, 3.1), (0.5, 3.1), (0.75, 4.0)])
    canvas.line(pocket, edge, 0.06, closed=True)


def _t_shirt(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    canvas.polygon(
        smooth([(-0.55, 1.36), (0.55, 1.36), (0.36, 1.78), (0.0, 1.92), (-0.36, 1.78)]),
        tone(skin, 0.94),
    )
    canvas.line(
        smooth(
            [(-0.58, 1.34), (-0.38, 1.78), (0.0, 1.94), (0.38, 1.78), (0.58, 1.34)], closed=False
        ),
        _edge(color),
        0.075,
    )
    for s in (-1, 1):
        arm = np.array(
            [
                (s * half * 0.72, 2.9),
                (s * half * 1.16, 2.75),
                (s * half * 1.2, 5.0),
                (s * half * 0.74, 5.0),
            ]
        )
        canvas.polygon(arm, tone(skin, 0.9))
        canvas.line(arm[:2], _edge(color), 0.07)


def _blazer(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    inner: Color = (246, 246, 248) if sum(color) < 660 else (120, 150, 200)
    canvas.polygon(np.array([(-0.5, 1.3), (0.5, 1.3), (0.12, 3.2), (-0.12, 3.2)]), inner)
    canvas.polygon(np.array([(-0.25, 1.35), (0.25, 1.35), (0.0, 1.85)]), tone(skin, 0.92))
    edge = _edge(color)
    for s in (-1, 1):
        canvas.polygon(
            np.array([(s * 0.3, 1.2), (s * 0.5, 1.28), (s * 0.2, 1.85), (0.0, 1.7)]),
            tone(inner, 0.9),
        )
        lapel = np.array(
            [(s * 0.52, 1.22), (s * 0.82, 1.5), (s * 0.72, 2.0), (s * 0.86, 2.1), (s * 0.06, 3.2)]
        )
        canvas.polygon(lapel, tone(color, 0.82, 10))
        canvas.line(lapel, edge, 0.075, closed=True)
    canvas.line(np.array([(0.0, 3.2), (0.0, 5.5)]), edge, 0.05)
    canvas.ellipse(0.1, 3.45, 0.07, 0.07, edge)


def _shirt(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    edge = _edge(color)
    canvas.polygon(np.array([(-0.36, 1.25), (0.36, 1.25), (0.0, 1.95)]), tone(skin, 0.92))
    canvas.line(np.array([(0.0, 1.9), (0.0, 5.5)]), edge, 0.05)
    for s in (-1, 1):
        flap = np.array([(s * 0.42, 1.14), (s * 0.66, 1.42), (s * 0.42, 2.02), (0.0, 1.86)])
        canvas.polygon(flap, tone(color, 1.08, 24))
        canvas.line(flap, edge, 0.07, closed=True)
    contrast: Color = (250, 250, 250) if sum(color) < 520 else (60, 60, 70)
    for y in (2.3, 2.95, 3.6):
        canvas.ellipse(0.0, y, 0.09, 0.09, contrast)


def _dress(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    bare = tone(skin, 0.97)
    neckline = smooth(
        [
            (-half * 1.0, 2.05),
            (-half * 0.8, 1.66),
            (-0.6, 1.42),
            (0.6, 1.42),
            (half * 0.8, 1.66),
            (half * 1.0, 2.05),
            (0.62, 2.1),
            (0.0, 2.32),
            (-0.62, 2.1),
        ]
    )
    canvas.polygon(neckline, bare)
    for s in (-1, 1):
        canvas.line(np.array([(s * 0.62, 1.4), (s * 0.72, 2.2)]), color, 0.15)
        arm = np.array(
            [
                (s * half * 0.74, 2.15),
                (s * half * 1.0, 1.9),
                (s * half * 1.14, 2.4),
                (s * half * 1.16, 5.0),
                (s * half * 0.74, 5.0),
            ]
        )
        canvas.polygon(arm, bare)
        canvas.line(arm[[0, 4]], tone(skin, 0.66), 0.05)
    canvas.line(
        smooth([(-0.8, 2.12), (-0.5, 2.14), (0.0, 2.34), (0.5, 2.14), (0.8, 2.12)], closed=False),
        _edge(color),
        0.07,
    )
    canvas.line(smooth([(-0.4, 1.4), (0.0, 1.78), (0.4, 1.4)], closed=False), _GOLD, 0.05)
    canvas.ellipse(0.0, 1.8, 0.07, 0.08, _GOLD)


def _sweater(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    collar = smooth([(-0.5, 1.06), (0.5, 1.06), (0.6, 1.5), (0.0, 1.66), (-0.6, 1.5)])
    canvas.polygon(collar, tone(color, 1.05, 14))
    canvas.line(collar, _edge(color), 0.05, closed=True)
    for x in (-0.24, 0.0, 0.24):
        canvas.line(np.array([(x, 1.1), (x * 1.15, 1.56)]), tone(color, 0.7), 0.06)
    for k, y in enumerate((2.05, 2.6, 3.15)):
        xs = np.linspace(-half * 0.62, half * 0.62, 9)
        zig = y + 0.13 * np.where(np.arange(9) % 2, 1.0, -1.0)
        canvas.line(
            np.stack([xs, zig], 1), tone(color, 0.62) if k % 2 else tone(color, 1.1, 36), 0.12
        )


def _robe(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    canvas.polygon(np.array([(-0.42, 1.3), (0.42, 1.3), (0.0, 2.3)]), tone(skin, 0.94))
    for s in (-1, 1):
        band = np.array([(s * 0.52, 1.2), (s * 0.3, 1.36), (-s * 0.05, 2.3), (s * 0.12, 2.46)])
        canvas.polygon(band, _GOLD)
        canvas.line(np.array([(s * 0.08, 2.4), (s * 0.2, 5.5)]), _GOLD, 0.1)
        canvas.line(
            smooth(
                [(s * half * 0.5, 1.56), (s * half * 0.8, 1.84), (s * half * 1.1, 2.3)],
                closed=False,
            ),
            _GOLD,
            0.08,
        )
        star = [
            (s * 0.75 + r * np.sin(a), 2.35 - r * np.cos(a))
            for a, r in zip(
                np.linspace(0, 2 * np.pi, 8, endpoint=False), [0.2, 0.07] * 4, strict=True
            )
        ]
        canvas.polygon(np.array(star), tone(_GOLD, 1.1))
    canvas.ellipse(0.0, 2.42, 0.16, 0.16, _GOLD)
    canvas.ellipse(0.0, 2.42, 0.1, 0.1, (60, 220, 230))


def _armor(canvas: Canvas, half: float, color: Color, skin: Color) -> None:
    plate = mix(color, (188, 192, 202), 0.3)
    dark, light = tone(plate, 0.45), tone(plate, 1.2, 50)
    canvas.polygon(
        smooth([(-0.62, 1.12), (0.62, 1.12), (0.8, 1.62), (0.0, 1.86), (-0.8, 1.62)]),
        tone(plate, 0.8),
    )
    canvas.line(smooth([(-0.62, 1.14), (0.0, 1.34), (0.62, 1.14)], closed=False), light, 0.07)
    chest = smooth([(-0.95, 1.7), (0.0, 1.9), (0.95, 1.7), (0.9, 2.7), (0.0, 3.3), (-0.9, 2.7)])
    canvas.polygon(chest, plate)
    canvas.line(chest, dark, 0.06, closed=True)
    canvas.line(np.array([(0.0, 1.92), (0.0, 3.25)]), light, 0.07)
    canvas.line(smooth([(-0.6, 1.95), (-0.5, 2.3), (-0.6, 2.6)], closed=False), light, 0.1)
    for s in (-1, 1):
        for k in (2, 1, 0):
            cx, cy = s * half * (0.84 + 0.08 * k), 1.9 + 0.3 * k
            canvas.ellipse(cx, cy, 0.52, 0.36, dark, s * 0.5)
            canvas.ellipse(cx, cy - 0.02, 0.47, 0.31, plate, s * 0.5)
            canvas.ellipse(cx - 0.1, cy - 0.14, 0.2, 0.08, light, s * 0.5)
    canvas.ellipse(0.0, 1.72, 0.1, 0.1, _GOLD)


_OUTFITS = {
    "hoodie": _hoodie,
    "t-shirt": _t_shirt,
    "blazer": _blazer,
    "shirt": _shirt,
    "dress": _dress,
    "sweater": _sweater,
    "robe": _robe,
    "armor": _armor,
}
