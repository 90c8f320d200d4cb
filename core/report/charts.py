"""Charts as inline SVG and HTML, in the colours of the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np


def histogram(
    selected: Sequence[float], others: Sequence[float], minimum: float | None, bins: int = 40
) -> str:
    """Draw how quality is distributed: the selected images within all that were scored.

    Args:
        selected: Scores of the selected images, in [0, 1].
        others: Scores of the rest, in [0, 1].
        minimum: Threshold to mark.
        bins: Number of bars.
    """
    if not len(selected) and not len(others):
        return '<p class="quiet">No image has a quality score.</p>'
    low, _ = np.histogram(np.clip(selected, 0, 1), bins, (0.0, 1.0))
    high, _ = np.histogram(np.clip(others, 0, 1), bins, (0.0, 1.0))
    tallest = max(1, int((low + high).max()))
    width, height, left, base = 800, 226, 40, 200
    step = (width - left - 16) / bins
    parts = []
    for count in _ticks(tallest):
        y = base - count / tallest * (base - 20)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - 16}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{count}</text>')
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        x, y = left + i * step, float(base)
        for count, kind in ((a, "chosen"), (b, "rest")):
            if count:
                bar = count / tallest * (base - 20)
                y -= bar
                label = f"{count} {'selected' if kind == 'chosen' else 'not selected'}"
                parts.append(
                    f'<rect class="{kind}" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" '
                    f'height="{bar:.1f}"><title>{i / bins:.3g} to {(i + 1) / bins:.3g}: {label}'
                    "</title></rect>"
                )
    for tenth in range(0, 11, 2):
        x = left + tenth / 10 * (width - left - 16)
        parts.append(f'<text x="{x:.1f}" y="{base + 20}" text-anchor="middle">{tenth / 10}</text>')
    if minimum is not None:
        x = left + minimum * (width - left - 16)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{base}"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="14" text-anchor="end">minimum {minimum:g}</text>')
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Histogram of quality scores">{"".join(parts)}</svg>'
        '<p class="key"><span class="swatch chosen"></span>selected'
        '<span class="swatch rest"></span>not selected</p>'
    )


def funnel(steps: Sequence[tuple[str, int, str]]) -> str:
    """Draw how many images are left after each step.

    Args:
        steps: (label, images left, what was lost and why) of each step, the widest first.
    """
    whole = max(1, steps[0][1])
    rows = [
        f'<div class="step"><span class="label">{escape(label)}</span>'
        f'<span class="track"><span class="bar" style="width:{count / whole:.2%}"></span></span>'
        f'<span class="count">{count:,}</span><span class="lost">{escape(lost)}</span></div>'
        for label, count, lost in steps
    ]
    return f'<div class="funnel">{"".join(rows)}</div>'


def _ticks(tallest: int) -> list[int]:
    step = next(
        s for s in (1, 2, 5, 10, 20, 50, *(10**k for k in range(2, 12))) if tallest / s <= 5
    )
    return list(range(0, tallest + 1, step))
