"""Hair: what lies behind the head, what frames the face, and its strands."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Color, Points, smooth, tone
from .head import Head

_LONG = ("straight", "wavy")


def draw_back_hair(canvas: Canvas, head: Head) -> None:
    """Draw the hair that falls behind face and neck; comes before them."""
    i = head.identity
    cx, cy, rx, ry = head.skull(_volume(head))
    dark = tone(i.hair_rgb, 0.62)
    rng = np.random.default_rng(i.hair_seed)
    style = i.hair_style
    if style in _LONG or style == "bob":
        end = 0.85 + 0.12 * i.hair_length if style == "bob" else 1.75 + 0.5 * i.hair_length
        flare = 1.12 if style == "bob" else 1.16
        left, right = cx - rx, cx + rx
        wave = 0.1 if style == "wavy" else 0.0
        ys = np.linspace(cy, end, 9)
        bulge = np.sin(np.linspace(0, 4.5 * np.pi, 9)) * wave
        widen = np.linspace(1.0, flare, 9)
        edge_r = np.stack([cx + (right - cx) * widen + bulge, ys], 1)
        edge_l = np.stack([cx + (left - cx) * widen - bulge, ys], 1)
        top = [(cx + rx * np.cos(a), cy - ry * np.sin(a)) for a in np.linspace(0.3, np.pi - 0.3, 9)]
        outline = smooth(np.concatenate([np.array(top), edge_l, edge_r[::-1]]))
        canvas.polygon(outline, tone(i.hair_rgb, 0.72))
        for n, k in enumerate((-0.88, -0.6, -0.3, 0.0, 0.3, 0.6, 0.88)):
            x = cx + rx * k * widen + bulge * np.sign(k)
            shade = 0.62 if n % 2 else 0.84
            canvas.line(smooth(np.stack([x, ys], 1), closed=False), tone(i.hair_rgb, shade), 0.08)
    elif style == "curly":
        _curls(canvas, head, rng, behind=True)
    else:
        canvas.polygon(_nape(head, cx, cy, rx, ry), dark)


def draw_front_hair(canvas: Canvas, head: Head) -> None:
    """Draw the hair over forehead and temples; comes after the features."""
    i = head.identity
    style = i.hair_style
    rng = np.random.default_rng(i.hair_seed + 1)
    cx, cy, rx, ry = head.skull(_volume(head))
    if style == "bun":
        bx = cx + 0.1 * np.sin(head.yaw)
        by = cy - ry - 0.16
        canvas.ellipse(bx, by, 0.4, 0.33, tone(i.hair_rgb, 0.6))
        canvas.ellipse(bx - 0.02, by - 0.02, 0.36, 0.29, i.hair_rgb)
        for r in (0.26, 0.15):
            canvas.line(
                smooth(
                    [(bx - r, by + r * 0.4), (bx - r * 0.4, by - r * 0.7), (bx + r, by)],
                    closed=False,
                ),
                tone(i.hair_rgb, 1.35, 14),
                0.035,
            )
    hairline = _hairline(head)
    arc = [
        (cx + rx * np.cos(a), cy - ry * np.sin(a))
        for a in np.linspace(_temple_angle(hairline[-1], cx, cy, rx, ry, 1), 0.5 * np.pi, 8)
    ] + [
        (cx + rx * np.cos(a), cy - ry * np.sin(a))
        for a in np.linspace(0.5 * np.pi, _temple_angle(hairline[0], cx, cy, rx, ry, -1), 8)[1:]
    ]
    line = smooth(hairline, closed=False)
    cap = np.concatenate([line, smooth(np.array(arc), closed=False)])
    # The shadow that hair throws on the forehead.
    canvas.line(line + np.array([0.0, 0.03]), tone(i.skin_rgb, 0.6), 0.06)
    canvas.polygon(cap, i.hair_rgb)
    _strands(canvas, head, line, (cx, cy, rx, ry), rng)
    if style == "curly":
        _curls(canvas, head, rng, behind=False)
    elif style in _LONG or style == "bob":
        _side_locks(canvas, head, rng)
    elif style == "braided":
        _braids(canvas, head)


def _volume(head: Head) -> float:
    """Return by how much the hair stands off the skull."""
    i = head.identity
    if i.hair_style in ("short", "bun", "braided"):
        return 0.04 + 0.55 * i.hair_volume
    return 0.08 + i.hair_volume


def _nape(head: Head, cx: float, cy: float, rx: float, ry: float) -> Points:
    """Return the skull seen from the front, narrowing towards the nape."""
    angles = np.linspace(-0.25, np.pi + 0.25, 16)
    top = np.stack([cx + rx * np.cos(angles), cy - ry * np.sin(angles)], 1)
    turned = -float(np.sin(head.yaw))
    left = cx - rx * (0.62 + 0.22 * max(-turned, 0.0))
    right = cx + rx * (0.62 + 0.22 * max(turned, 0.0))
    return smooth(np.concatenate([top, [[left, 0.52], [right, 0.52]]]))


def _temple_angle(
    point: tuple[float, float], cx: float, cy: float, rx: float, ry: float, side: int
) -> float:
    sine = np.clip((cy - point[1]) / ry, -0.9, 0.9)
    angle = float(np.arcsin(sine))
    return angle if side > 0 else np.pi - angle


def _hairline(head: Head) -> list[tuple[float, float]]:
    """Points from the left temple over the forehead to the right temple."""
    i = head.identity
    w = head.width
    style = i.hair_style
    fringe = style == "bob" or (style == "straight" and i.fringe > 0.6)
    low = {"short": 0.12, "bun": -0.05, "curly": 0.1, "braided": 0.0}.get(style, 0.15)
    points: list[tuple[float, float]] = []
    for t in (-1.0, -0.86, -0.55, -0.2, 0.2, 0.55, 0.86, 1.0):
        a = abs(t)
        if a == 1.0:
            y = low
        elif fringe:
            y = -0.42 - 0.06 * i.fringe + (0.04 if a > 0.8 else 0.0)
        else:
            y = {0.86: -0.42, 0.55: -0.76, 0.2: -0.86}[a]
            y += 0.14 * i.fringe * (1 if t * i.parting > 0 else 0.15) * (a < 0.8)
            if style == "short":
                y -= 0.04
        depth = -0.02 if a == 1.0 else head.depth(t * w)
        edge = 1.0 if a < 1 else 1.06
        points.append((head.x(t * w * edge, depth), y))
    # Turned away, the far temple hides behind the forehead.
    xs = [x for x, _ in points]
    if head.yaw > 0:
        points[-1] = (max(xs[-2], xs[-1]) + 0.02, points[-1][1] - 0.25)
    if head.yaw < 0:
        points[0] = (min(xs[1], xs[0]) - 0.02, points[0][1] - 0.25)
    return points


def _strands(
    canvas: Canvas,
    head: Head,
    line: Points,
    skull: tuple[float, float, float, float],
    rng: np.random.Generator,
) -> None:
    """Comb strands from the parting over the cap, to the hairline and round to the sides."""
    i = head.identity
    cx, cy, rx, _ = skull
    crown = _crown(head, skull)
    picks = np.linspace(0, len(line) - 1, 7).astype(int)
    ends = list(line[picks])
    if i.hair_style != "curly":
        for side, end in ((1, line[-1]), (-1, line[0])):
            for share in (0.6,):
                ends.append(end + share * (np.array([cx + side * rx, end[1]]) - end))
    for n, end in enumerate(ends):
        middle = (crown + end) / 2
        out = middle - np.array([cx, cy + 0.2])
        middle = middle + out * (0.16 if n < 7 else 0.3)
        gain, lift = ((0.78, 0.0), (1.16, 10.0))[n % 2]
        start = crown + rng.uniform(-0.05, 0.05, 2)
        canvas.line(
            smooth(np.array([start, middle, end]), closed=False),
            tone(i.hair_rgb, gain, lift),
            0.07,
        )


def _crown(head: Head, skull: tuple[float, float, float, float]) -> Points:
    """Return where the parting meets the top of the head."""
    cx, cy, rx, ry = skull
    x = head.x(head.identity.parting * head.width * 0.7, 0.2)
    x = float(np.clip(x, cx - rx * 0.6, cx + rx * 0.6))
    return np.array([x, cy - ry * 0.96 * np.sqrt(1 - ((x - cx) / rx) ** 2)])


def _side_locks(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Draw the hair that falls from the parting past the temples on both sides."""
    i = head.identity
    style = i.hair_style
    skull = head.skull(_volume(head))
    cx, cy, rx, ry = skull
    crown = _crown(head, skull)
    end = 0.8 + 0.12 * i.hair_length if style == "bob" else 1.6 + 0.5 * i.hair_length
    falls = np.linspace(-0.1, end, 8)
    sweep = np.sin(np.linspace(0, 3.6 * np.pi, 8)) * (0.085 if style == "wavy" else 0.0)
    for side in (-1, 1):
        far = side * head.yaw > 0.25
        outer = cx + side * rx
        temple = head.x(side * head.width * 0.93)
        if far:
            temple = side * min(abs(outer) - 0.1, max(abs(temple), head.width * 0.84))
        low = temple + side * (0.06 if style == "bob" else 0.12)
        inner = np.concatenate(
            [
                [crown, [crown[0] * 0.35 + temple * 0.65, -0.84], [temple - side * 0.04, -0.45]],
                np.stack([np.linspace(temple, low, 8) + sweep, falls], 1),
            ]
        )
        # From the crown along the skull, then straight down with a little flare.
        angle = np.array([0.97, 0.55])
        reach = abs(outer - crown[0])
        bend = np.stack(
            [
                crown[0] + side * reach * np.array([0.55, 0.93]),
                cy - ry * np.sqrt(np.clip(angle, 0, 1)) * np.array([0.93, 0.72]),
            ],
            1,
        )
        edge = np.linspace(outer, max(abs(outer) * 1.08, abs(low) + 0.12) * side, 8)
        outside = np.concatenate([[crown], bend, np.stack([edge + sweep, falls], 1)])
        canvas.polygon(
            np.concatenate([smooth(inner, closed=False), smooth(outside[::-1], closed=False)]),
            i.hair_rgb,
        )
        for k, share in enumerate((0.05, 0.35, 0.65, 0.95)):
            strand = inner + (outside - inner) * share
            gain, lift = ((0.68, 0.0), (1.16, 10.0))[k % 2]
            strand[:, 0] += rng.uniform(-0.01, 0.01)
            canvas.line(smooth(strand, closed=False), tone(i.hair_rgb, gain, lift), 0.07)


def _curls(canvas: Canvas, head: Head, rng: np.random.Generator, *, behind: bool) -> None:
    """Pile up curls: a halo behind the head, or a row along the hairline."""
    i = head.identity
    cx, cy, rx, ry = head.skull(0.12 + i.hair_volume)
    woman = i.gender == "woman"
    if behind:
        reach = 0.95 + 0.55 * i.hair_length if woman else 0.25
        canvas.polygon(_nape(head, cx, cy, rx, ry), tone(i.hair_rgb, 0.6))
        spots = [
            (cx + rx * 1.02 * np.cos(a), cy - ry * np.sin(a))
            for a in np.linspace(-0.15, np.pi + 0.15, 10)
        ]
        for y in np.arange(0.05, reach, 0.36):
            spots += [(cx - rx * 1.08, y), (cx + rx * 1.08, y)]
            spots += [(cx - rx * 0.78, y + 0.16), (cx + rx * 0.78, y + 0.16)]
        size = 0.29
    else:
        line = np.array(_hairline(head))
        spots = [(x, y - 0.03) for x, y in smooth(line, closed=False)[::6]]
        spots += [
            (cx + rx * f * np.cos(a), cy - ry * f * np.sin(a))
            for f in (0.86,)
            for a in np.linspace(0.4, np.pi - 0.4, 6)
        ]
        spots = [p for p in spots if p[1] < -0.3]
        if abs(head.yaw) > 0.3:
            # The near temple: curls between hairline and outer edge.
            side = -1 if head.yaw > 0 else 1
            temple, edge = line[0 if side < 0 else -1][0], cx + side * rx
            spots += [
                (temple + (edge - temple) * share, y)
                for y in (0.1, -0.2, -0.48)
                for share in (0.3, 0.85)
            ]
        size = 0.21
    for x, y in spots:
        radius = size * rng.uniform(0.85, 1.15)
        x, y = x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03)
        canvas.ellipse(x, y, radius, radius, tone(i.hair_rgb, 0.6))
        canvas.ellipse(x - 0.015, y - 0.015, radius * 0.84, radius * 0.84, i.hair_rgb)
        start = rng.uniform(2.4, 4.0)
        arc = [
            (x + radius * 0.5 * np.cos(a), y + radius * 0.5 * np.sin(a))
            for a in np.linspace(start, start + 2.4, 4)
        ]
        canvas.line(np.array(arc), tone(i.hair_rgb, 1.3, 16), 0.075)


def _braids(canvas: Canvas, head: Head) -> None:
    """Draw two braids that fall over the shoulders."""
    i = head.identity
    cx, _, rx, _ = head.skull(_volume(head))
    light: Color = tone(i.hair_rgb, 1.3, 14)
    for side in (-1, 1):
        x = cx + side * rx * 0.96
        for n in range(6):
            y = 0.24 + n * 0.31
            px = x + side * 0.03 * n
            canvas.ellipse(px, y, 0.19, 0.19, tone(i.hair_rgb, 0.5))
            canvas.ellipse(px - 0.04, y - 0.02, 0.12, 0.15, i.hair_rgb, 0.6)
            canvas.ellipse(px + 0.06, y + 0.03, 0.07, 0.12, light, -0.6)
