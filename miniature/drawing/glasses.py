"""Glasses: two rings, a bridge, and the temples that can be seen."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Color, smooth
from .head import Head


def draw_glasses(canvas: Canvas, head: Head) -> None:
    """Draw bold dark glasses before the eyes of a head."""
    i = head.identity
    color: Color = (26, 24, 30)
    y = i.eye_height + 0.03
    inner = []
    for side in (-1, 1):
        u = side * i.eye_spacing * 1.03
        cx = head.x(u, head.depth(u) + 0.04)
        rx = 0.262 * max(head.foreshortening(u), 0.5)
        ring = smooth(
            [
                (cx - rx, y - 0.1),
                (cx - rx * 0.6, y - 0.2),
                (cx + rx * 0.6, y - 0.2),
                (cx + rx, y - 0.1),
                (cx + rx * 0.85, y + 0.14),
                (cx, y + 0.215),
                (cx - rx * 0.85, y + 0.14),
            ]
        )
        canvas.line(ring, color, 0.058, closed=True)
        inner.append(cx - side * rx)
        if side * head.yaw < 0.3:
            ear_x, ear_y = head.ear(side)
            canvas.line(np.array([(cx + side * rx, y - 0.08), (ear_x, ear_y - 0.1)]), color, 0.05)
    canvas.line(np.array([(inner[0], y - 0.06), (inner[1], y - 0.06)]), color, 0.058)
