"""The course of a run as a plot: SVG and PNG, drawn from one list of shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from ... import atomic

Point = tuple[float, float]

WIDTH, HEIGHT = 900, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 56, 52
_INK, _FAINT, _GRID = "#202124", "#5f6368", "#dedcd7"
_GROUND, _TRAINING, _VALIDATION = "#faf9f7", "#b9b3a8", "#1f6f8b"


@dataclass(frozen=True)
class _Line:
    points: Sequence[Point]
    color: str
    width: float = 1.0


@dataclass(frozen=True)
class _Dot:
    at: Point
    color: str
    radius: float


@dataclass(frozen=True)
class _Text:
    at: Point
    text: str
    anchor: str = "middle"
    size: int = 13
    color: str = _FAINT


Shape = _Line | _Dot | _Text


def write_plot(
    history: pl.DataFrame,
    svg: Path,
    png: Path,
    *,
    title: str = "",
    best_epoch: int | None = None,
    convergence_epoch: int | None = None,
) -> None:
    """Draw training and validation loss over the epochs.

    Args:
        history: As :attr:`.TrainingResult.history`.
        svg: File to write.
        png: File to write.
        title: A line on top.
        best_epoch: Epoch to mark as the best.
        convergence_epoch: Epoch to mark as that of convergence.
    """
    shapes = _shapes(history, title, best_epoch, convergence_epoch)
    atomic.write_text(svg, _svg(shapes, title or "Loss over the epochs"))
    with atomic.replacing(png) as temporary:
        _image(shapes).save(temporary, format="PNG")


def _shapes(
    history: pl.DataFrame, title: str, best: int | None, converged: int | None
) -> list[Shape]:
    curves = {
        name: [(float(e), float(v)) for e, v in zip(history["epoch"], history[name], strict=True)
               if v is not None and math.isfinite(v)]
        for name in ("loss", "validation_loss")
    }  # fmt: skip
    values = [value for points in curves.values() for _, value in points]
    shapes: list[Shape] = [_Text((_LEFT, 26), title, "start", 17, _INK)]
    if not values:
        return [*shapes, _Text((WIDTH / 2, HEIGHT / 2), "No loss has been measured yet.")]
    last = float(max(1, *history["epoch"].to_list()))
    across = _ticks(0, last, whole=True)
    up = _ticks(min(values), max(values))
    plane = _Plane(0, last, up[0], up[-1])
    for value in up:
        y = plane.y(value)
        shapes.append(_Line([(_LEFT, y), (WIDTH - _RIGHT, y)], _GRID))
        shapes.append(_Text((_LEFT - 8, y + 4), f"{value:.4g}", "end"))
    for value in across:
        shapes.append(_Text((plane.x(value), HEIGHT - _BOTTOM + 20), f"{value:g}"))
    shapes.append(_Text((WIDTH / 2, HEIGHT - 10), "epoch"))
    marks = {"convergence": converged, "best": best}
    shapes += _marks([(plane.x(e), f"{word}: {e}") for word, e in marks.items() if e is not None])
    legend: list[tuple[str, str, str, float]] = [
        ("loss", "training", _TRAINING, 1.5),
        ("validation_loss", "validation (fixed noise)", _VALIDATION, 2.5),
    ]
    left = WIDTH - _RIGHT - 270
    for name, words, color, width in legend:
        points = [plane.at(point) for point in curves[name]]
        if not points:
            continue
        shapes.append(_Line(points, color, width) if len(points) > 1 else _Dot(points[0], color, 3))
        shapes.append(_Line([(left, 22), (left + 22, 22)], color, width))
        shapes.append(_Text((left + 28, 26), words, "start"))
        left += 100
    marked = dict(curves["validation_loss"]).get(float(best)) if best is not None else None
    if best is not None and marked is not None:
        shapes.append(_Dot(plane.at((best, marked)), _VALIDATION, 5))
    return shapes


def _marks(marks: Sequence[tuple[float, str]]) -> list[Shape]:
    """Return a line at each ``(x, label)``, and its label beside it, a row each.

    A line begins at its label's row, and the labels point away from the lines that are longer: no
    line crosses a label.
    """
    ordered = sorted(marks)
    crowded = bool(ordered) and ordered[-1][0] > WIDTH * 0.8  # no room to its right
    if crowded:
        ordered.reverse()
    shapes: list[Shape] = []
    for row, (x, label) in enumerate(ordered):
        top = _TOP + 16 * row
        shapes.append(_Line([(x, top), (x, HEIGHT - _BOTTOM)], _FAINT))
        leftwards = crowded and x > WIDTH / 2
        at = (x - 6 if leftwards else x + 6, top + 12)
        shapes.append(_Text(at, label, "end" if leftwards else "start"))
    return shapes


@dataclass(frozen=True)
class _Plane:
    """Maps epochs and losses to positions in the plot."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.left) / (self.right - self.left)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def at(self, point: Point) -> Point:
        return self.x(point[0]), self.y(point[1])


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return round numbers from at most ``low`` to at least ``high``, about six of them."""
    span = high - low or abs(high) or 1.0
    raw = span / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
    if whole:
        step = max(1.0, math.ceil(step))
        return [step * i for i in range(math.floor(high / step) + 1)]
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _svg(shapes: Sequence[Shape], label: str) -> str:
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{_GROUND}"/>']
    for shape in shapes:
        if isinstance(shape, _Line):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{shape.color}" '
                f'stroke-width="{shape.width:g}"/>'
            )
        elif isinstance(shape, _Dot):
            x, y = shape.at
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{shape.color}"/>'
            )
        else:
            x, y = shape.at
            parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}" '
                f'font-size="{shape.size}" fill="{shape.color}">{escape(shape.text)}</text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif">{"".join(parts)}</svg>\n'
    )


def _image(shapes: Sequence[Shape]) -> Any:
    """Draw the shapes at twice the size, for smooth lines, and halve the image."""
    from PIL import Image, ImageDraw, ImageFont

    scale = 2
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), _GROUND)
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in shapes:
        if isinstance(shape, _Line):
            points = [(x * scale, y * scale) for x, y in shape.points]
            draw.line(points, shape.color, round(shape.width * scale), joint="curve")
        elif isinstance(shape, _Dot):
            (x, y), radius = shape.at, shape.radius
            draw.ellipse([(v * scale) for v in (x - radius, y - radius, x + radius, y + radius)],
                         shape.color)  # fmt: skip
        else:
            x, y = shape.at
            try:
                font: Any = ImageFont.load_default(shape.size * scale)
            except TypeError:  # Pillow before 10.1 has one size only, which knows no anchors
                draw.text((x * scale, y * scale - 12), shape.text, shape.color)
                continue
            at = (x * scale, y * scale)
            draw.text(at, shape.text, shape.color, font, anchors[shape.anchor])
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
