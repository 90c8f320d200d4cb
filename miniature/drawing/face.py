"""Skin, ears, eyes, brows, nose, mouth, freckles and glasses."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..scene import Scene
from .canvas import Canvas, Color, Points, ellipse_points, smooth, tone
from .glasses import draw_glasses
from .head import Head

_WHITE: Color = (246, 243, 238)

# Expression: corner lift, width factor, mouth opening, eye opening, brow drop.
_EXPRESSION: dict[str, tuple[float, float, float, float, float]] = {
    "calm": (0.0, 1.0, 0.0, 1.0, 0.0),
    "gentle smile": (0.085, 1.12, 0.0, 0.95, 0.0),
    "warm smile": (0.12, 1.2, 0.12, 0.9, -0.02),
    "laughing": (0.12, 1.18, 0.25, 0.82, -0.04),
    "serious": (-0.05, 0.95, 0.0, 0.82, 0.045),
}


def draw_skin(canvas: Canvas, head: Head) -> None:
    """Fill the face and shade sockets, nose sides, cheeks and the lower lip's shadow."""
    i = head.identity
    skin = i.skin_rgb
    canvas.polygon(head.outline(), skin)
    # The soft shades are blurred anyway: half the resolution does.
    half = canvas.side // 2
    soft = np.full((half, half, 3), 128, np.uint8)
    shade = Canvas(
        soft, (canvas.origin[0] / 2, canvas.origin[1] / 2), canvas.scale / 2, canvas.roll
    )

    def blot(x: float, y: float, rx: float, ry: float, gain: tuple[float, float, float]) -> None:
        points = shade.to_pixels(ellipse_points(head.x(x), y, rx * head.foreshortening(x), ry))
        r, g, b = gain
        cv2.fillPoly(soft, [np.round(points).astype(np.int32)], (128 * r, 128 * g, 128 * b))

    blot(0.0, -0.62, 0.4, 0.22, (1.1, 1.1, 1.1))
    for s in (-1, 1):
        blot(s * 0.44, i.cheek_height + 0.2, 0.16, 0.14, (1.05, 0.91, 0.91))
        blot(s * i.eye_spacing, i.eye_height - 0.1, i.eye_width * 1.3, 0.16, (0.74, 0.7, 0.7))
    # The side of the nose away from the light of the face lies in shadow.
    away = -1.0 if head.yaw > 0 else 1.0
    nose_y = i.eye_height + i.nose_length
    blot(away * i.nose_width * 0.75, nose_y - 0.22, 0.06, 0.26, (0.66, 0.6, 0.58))
    blot(0.0, nose_y + 0.09, i.nose_width * 0.9, 0.045, (0.62, 0.55, 0.54))
    blot(0.0, nose_y - 0.2, 0.045, 0.26, (1.14, 1.13, 1.12))
    blot(0.0, i.mouth_height + i.lip_fullness + 0.1, 0.16, 0.045, (0.74, 0.7, 0.7))
    blot(0.0, 0.87, 0.14, 0.07, (1.08, 1.07, 1.07))
    if i.gender == "man":
        for x in (-0.4, -0.2, 0.0, 0.2, 0.4):
            blot(x, 0.84 - 0.28 * abs(x), 0.17, 0.12, (0.84, 0.84, 0.87))
    blurred = cv2.GaussianBlur(soft, (0, 0), 0.06 * shade.scale)
    soft = np.asarray(cv2.resize(blurred, (canvas.side, canvas.side)), dtype=np.uint8)
    _multiply(canvas.pixels, soft)
    # A darker rim keeps the face apart from hair, neck and ground.
    canvas.line(head.outline(), tone(skin, 0.66), 0.028, closed=True)


def _multiply(pixels: NDArray[np.uint8], soft: NDArray[np.uint8]) -> None:
    pixels[..., :3] = cv2.multiply(np.ascontiguousarray(pixels[..., :3]), soft, scale=1 / 128)


def draw_ears(canvas: Canvas, head: Head) -> None:
    """Draw the ears that can be seen; hair may cover them afterwards."""
    i = head.identity
    for side in (-1, 1):
        turned_away = side * head.yaw > 0.3
        if turned_away:
            continue
        x, y = head.ear(side)
        near = side * head.yaw < -0.3
        rx = i.ear_size * (0.62 if near else 0.42)
        canvas.ellipse(x, y, rx, i.ear_size, tone(i.skin_rgb, 0.7), side * 0.12)
        canvas.ellipse(x, y, rx * 0.84, i.ear_size * 0.86, tone(i.skin_rgb, 0.94), side * 0.12)
        canvas.ellipse(
            x - side * rx * 0.1, y, rx * 0.45, i.ear_size * 0.5, tone(i.skin_rgb, 0.7), side * 0.12
        )


def draw_features(canvas: Canvas, head: Head, scene: Scene) -> dict[str, tuple[float, float]]:
    """Draw freckles, nose, mouth, eyes, brows and glasses.

    Returns:
        Centres of the landmarks in the head's units: left eye, right eye, nose, left mouth corner
        and right mouth corner, left and right as the image shows them.
    """
    _freckles(canvas, head)
    nose = _nose(canvas, head)
    left_mouth, right_mouth = _mouth(canvas, head, scene.expression)
    left_eye = _eye(canvas, head, scene.expression, -1)
    right_eye = _eye(canvas, head, scene.expression, 1)
    if scene.glasses:
        draw_glasses(canvas, head)
    return {
        "left_eye": left_eye,
        "right_eye": right_eye,
        "nose": nose,
        "left_mouth": left_mouth,
        "right_mouth": right_mouth,
    }


def _freckles(canvas: Canvas, head: Head) -> None:
    i = head.identity
    r, g, b = i.skin_rgb
    color = (r * 0.66, g * 0.46, b * 0.34)
    for x, y, radius in i.freckle_pattern:
        u = x * head.width / 0.78
        canvas.ellipse(head.x(u), y, radius * max(head.foreshortening(u), 0.5), radius, color)


def _nose(canvas: Canvas, head: Head) -> tuple[float, float]:
    i = head.identity
    skin = i.skin_rgb
    y = i.eye_height + i.nose_length
    base, tip_depth = head.depth(0.0), head.depth(0.0) + 0.17
    tip = head.x(0.0, tip_depth)
    width = i.nose_width
    left, right = head.x(-width, base - 0.02), head.x(width, base - 0.02)
    bridge = head.x(0.0, base + 0.02)
    far = 1.0 if head.yaw > 0 else -1.0
    edge = tip + far * 0.035
    # Wings and underside, then the ridge that stands out when the head is turned.
    canvas.polygon(
        smooth(
            [
                (left, y),
                (tip - 0.1, y - 0.1),
                (tip + 0.1, y - 0.1),
                (right, y),
                (tip + 0.06, y + 0.075),
                (tip - 0.06, y + 0.075),
            ]
        ),
        tone(skin, 0.9),
    )
    canvas.ellipse(tip, y - 0.035, 0.075, 0.065, tone(skin, 1.1, 6))
    if abs(head.yaw) > 0.25:
        ridge = smooth(
            [
                (bridge + far * 0.06, i.eye_height + 0.02),
                (bridge + far * 0.08, i.eye_height + 0.1),
                (edge + far * 0.03, y - 0.08),
                (edge, y + 0.03),
                (tip - far * 0.02, y + 0.07),
            ],
            closed=False,
        )
        canvas.line(ridge, tone(skin, 0.66), 0.045)
    else:
        for s, x in ((-1, left), (1, right)):
            canvas.line(
                smooth(
                    [(x - s * 0.02, y - 0.09), (x + s * 0.012, y), (x - s * 0.04, y + 0.05)],
                    closed=False,
                ),
                tone(skin, 0.6),
                0.042,
            )
    for s in (-1, 1):
        if s * head.yaw > 0.7:
            continue
        canvas.ellipse(
            head.x(s * width * 0.48, base + 0.1), y + 0.045, 0.048, 0.03, tone(skin, 0.34)
        )
    return tip, y - 0.02


def _mouth(
    canvas: Canvas, head: Head, expression: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    i = head.identity
    lift, widen, opening, _, _ = _EXPRESSION[expression]
    y, full, half = i.mouth_height, i.lip_fullness, i.mouth_width * widen
    lip, dark = i.lip_rgb, tone(i.lip_rgb, 0.45)

    def at(t: float, dy: float) -> tuple[float, float]:
        x = t * half
        return head.x(x, head.depth(x) + 0.03), y - lift * (abs(t) ** 1.6 - 0.3) + dy

    ts = (-1.0, -0.55, -0.2, 0.0, 0.2, 0.55, 1.0)
    bow = {0.0: 0.75, 0.2: 1.0, 0.55: 0.7, 1.0: 0.0}
    upper = [at(t, -full * bow[abs(t)] - opening * 0.35 * (1 - t * t)) for t in ts]
    seam_top = [at(t, -opening * 0.35 * (1 - t * t)) for t in ts]
    seam_low = [at(t, opening * 0.65 * (1 - t * t)) for t in ts]
    lower = [at(t, opening * 0.65 * (1 - t * t) + full * 1.25 * (1 - t * t)) for t in ts]
    canvas.polygon(smooth([*upper, *lower[-2:0:-1]]), lip)
    if opening:
        canvas.polygon(smooth([*seam_top, *seam_low[-2:0:-1]]), (74, 22, 26))
        depth = 0.62 if expression == "laughing" else 0.95
        teeth = [
            (a[0], a[1] + (b[1] - a[1]) * depth) for a, b in zip(seam_top, seam_low, strict=True)
        ]
        canvas.polygon(smooth([*seam_top[1:-1], *teeth[-2:0:-1]]), (250, 246, 240))
    else:
        seam = smooth(seam_top, closed=False)
        canvas.line(seam, dark, 0.05)
        canvas.ellipse(*at(0.0, full * 0.7), half * 0.3, full * 0.25, tone(lip, 1.14, 8))
    left, right = at(-1.0, 0.0), at(1.0, 0.0)
    if lift > 0.05:
        # Dimples make a smile last through a coarse codec.
        for s, (x, cy) in ((-1, left), (1, right)):
            canvas.line(
                smooth(
                    [(x + s * 0.01, cy - 0.04), (x + s * 0.05, cy), (x + s * 0.035, cy + 0.06)],
                    closed=False,
                ),
                tone(i.skin_rgb, 0.62),
                0.036,
            )
    return left, right


def _eye(canvas: Canvas, head: Head, expression: str, side: int) -> tuple[float, float]:
    i = head.identity
    _, _, _, openness, drop = _EXPRESSION[expression]
    u = side * i.eye_spacing
    squeeze = head.foreshortening(u)
    cx, cy = head.x(u), i.eye_height
    half = i.eye_width * max(squeeze, 0.42)
    tall = i.eye_width * i.eye_aspect * openness
    slope = i.eye_tilt * side

    def lids(t: Points) -> tuple[Points, Points]:
        arch = np.clip(1 - np.abs(t) ** 2.2, 0, 1)
        base = cy + slope * t * half
        return base - tall * arch, base + tall * 0.72 * arch

    t = np.linspace(-1, 1, 13)
    x = cx + t * half
    top, low = lids(t)
    skin = i.skin_rgb
    almond = np.concatenate([np.stack([x, top], 1), np.stack([x, low], 1)[::-1]])
    canvas.polygon(almond, _WHITE)
    radius = min(i.eye_width * 0.56, tall * 1.02 + 0.02)
    iris_x, iris_y = cx + 0.05 * np.sin(head.yaw), cy - tall * 0.1

    def clipped(px: float, py: float, r: float) -> Points:
        points = ellipse_points(px, py, r * max(squeeze, 0.62), r)
        tt = np.clip((points[:, 0] - cx) / half, -1, 1)
        upper, lower = lids(tt)
        return np.stack([cx + tt * half, np.clip(points[:, 1], upper, lower)], 1)

    canvas.polygon(clipped(iris_x, iris_y, radius), tone(i.eye_rgb, 0.5))
    canvas.polygon(clipped(iris_x, iris_y, radius * 0.84), i.eye_rgb)
    canvas.polygon(clipped(iris_x, iris_y + radius * 0.35, radius * 0.5), tone(i.eye_rgb, 1.25, 14))
    canvas.polygon(clipped(iris_x, iris_y, radius * 0.42), (14, 12, 14))
    spark = radius * 0.26
    canvas.ellipse(iris_x - radius * 0.3, iris_y - radius * 0.28, spark, spark, (255, 255, 255))
    woman = i.gender == "woman"
    lash = np.stack([x, top], 1)
    if woman:
        end = -1 if side > 0 else 0
        wing = lash[end] + np.array([side * 0.045, -0.045])
        lash = (
            np.concatenate([lash, wing[None]]) if side > 0 else np.concatenate([wing[None], lash])
        )
    canvas.line(lash, (34, 22, 20), 0.062 if woman else 0.046)
    canvas.line(np.stack([x, low], 1), tone(skin, 0.52), 0.026)
    canvas.line(np.stack([x, top - 0.065], 1)[2:-2], tone(skin, 0.66), 0.022)

    # Brow: a tapering arch, thicker at the nose.
    brow = tone(i.hair_rgb, 0.62) if sum(i.hair_rgb) > 240 else tone(i.hair_rgb, 0.9)
    s = np.linspace(-1, 1, 9)
    outward = s * side
    bx = cx + s * half * 1.22
    by = cy - i.brow_gap - tall * 0.35 - i.brow_arch * (1 - (outward - 0.25) ** 2)
    by = by + drop * (0.5 - outward * 0.9) + 0.03 * np.clip(outward, 0, 1)
    thick = i.brow_thickness * (1.0 - 0.6 * np.clip(outward, 0, 1) ** 2)
    canvas.polygon(
        np.concatenate([np.stack([bx, by - thick / 2], 1), np.stack([bx, by + thick], 1)[::-1]]),
        brow,
    )
    return cx, cy
