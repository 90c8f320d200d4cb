"""Contact sheets of evaluated images, a rating under each."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from .. import atomic
from ..naming import located
from ..report.contact_sheet import Group, contact_sheet


def sheet(
    parts: Sequence[tuple[str, pl.DataFrame, Path]],
    *,
    title: str,
    columns: int = 9,
    side: int = 128,
) -> Any:
    """Draw measured and judged images, a heading for each part.

    Under each image stand its rating, its name, and its identity similarity.

    Args:
        parts: (heading, table, folder of the images).
        title: A line on top.
        columns: Images a line.
        side: Longer side of an image on the sheet, in pixels.

    Returns:
        A PIL image in RGB.
    """
    groups: list[Group] = [
        (
            heading,
            [(located(root, row["path"]), label(row)) for row in table.iter_rows(named=True)],
        )
        for heading, table, root in parts
        if table.height
    ]
    return contact_sheet(groups, title=title, columns=columns, side=side)


def grid_parts(table: pl.DataFrame, root: Path) -> list[tuple[str, pl.DataFrame, Path]]:
    """Return the rows of a prompts x seeds grid: a part a prompt."""
    parts = table.partition_by("scenario", maintain_order=True)
    return [(part["prompt"][0], part, root) for part in parts]


def label(row: dict[str, Any]) -> str:
    """Return what stands under an image, such as ``5 excellent  .87``."""
    similarity = row.get("identity_similarity")
    face = "no face" if similarity is None else f"{similarity:.2f}"
    return f"{row['rating']} {row['rating_name']}  {face}"


def write_png(image: Any, path: Path) -> None:
    """Write an image as PNG, whole or not at all."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    atomic.write_bytes(path, buffer.getvalue())
