"""Draws the grid of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.evaluation.result import Evaluation

_SIDE = 256
"""Of an image in the grid, in pixels: large enough to judge a face, and for its prompt above."""


def grid_of(evaluation: Evaluation, root: Path) -> Any:
    """Draw prompts x seeds, a line a prompt and a rating under each image; the base below.

    Returns:
        A PIL image in RGB.
    """
    import polars as pl

    from ...core.evaluation.sheet import grid_parts, sheet

    table = evaluation.table
    parts = []
    for series, heading in (("trigger", ""), ("base", "Base model: ")):
        rows = table.filter(pl.col("series") == series)
        parts += [(heading + title, part, place) for title, part, place in grid_parts(rows, root)]
    figures = evaluation.summary.trigger
    title = (
        f"{evaluation.name}: consistency {figures.consistency.value:.0%}, "
        f"artefacts {figures.artefacts.value:.0%}"
    )
    columns = max(part.height for _, part, _ in parts)
    return sheet(parts, title=title, columns=max(3, min(columns, 9)), side=_SIDE)
