"""Contact sheets: many images at a glance, with captions under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ..imageset import ImageSet
from ..rejection_reasons import Rejection
from .composition import LABEL, shortened
from .thumbnails import readable_path, thumbnails

_GROUND = (250, 249, 247)
_INK = (32, 33, 36)
_FAINT = (84, 85, 90)
_TILE = (232, 231, 228)

Group = tuple[str, Sequence[tuple[Path | None, str]]]
"""A heading, and (path, caption) of each image under it; no path where none can be read."""


def contact_sheet(
    groups: Sequence[Group], *, title: str = "", columns: int = 10, side: int = 128
) -> Any:
    """Draw groups of images under headings.

    Args:
        groups: What to draw, in this order.
        title: A line on top.
        columns: Images a line.
        side: Side of the square that an image is fitted into, in pixels.

    Returns:
        A PIL image in RGB. An image that cannot be read is an empty tile with its caption.
    """
    from PIL import Image, ImageDraw

    fonts = {size: _font(size) for size in (13, 18, 26)}
    gap, line = max(6, side // 16), 16
    margin, heading = 2 * gap + 8, 40
    cell = side + line + gap
    width = 2 * margin + columns * side + (columns - 1) * gap
    rows = [math.ceil(len(items) / columns) for _, items in groups]
    height = 2 * margin + (48 if title else 0) + sum(heading + n * cell for n in rows)
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    top = margin
    if title:
        draw.text(
            (margin, top), _fitted(draw, title, fonts[26], width - 2 * margin), _INK, fonts[26]
        )
        top += 48
    for (label, items), lines in zip(groups, rows, strict=True):
        text = _fitted(draw, f"{label}  ·  {len(items)}", fonts[18], width - 2 * margin)
        draw.text((margin, top + 6), text, _INK, fonts[18])
        top += heading
        for position, (small, (_, caption)) in enumerate(
            zip(thumbnails([path for path, _ in items], side), items, strict=True)
        ):
            x = margin + position % columns * (side + gap)
            y = top + position // columns * cell
            draw.rectangle((x, y, x + side - 1, y + side - 1), _TILE)
            if small is None:
                draw.text((x + 8, y + side // 2 - 8), "unreadable", _FAINT, fonts[13])
            else:
                sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
            draw.text((x, y + side + 2), _fitted(draw, caption, fonts[13], side), _FAINT, fonts[13])
        top += lines * cell
    return sheet


def contact_sheets(
    images: ImageSet, *, by: str = "selected", limit: int = 500, columns: int = 10, side: int = 128
) -> Any:
    """Draw the contact sheet of a set.

    Args:
        images: The set, after whatever stages.
        by: ``selected``: the selected images (without a selection: the accepted ones), a group
            a cluster; ``rejected``: the rejected ones, a group a reason; or the name of a column:
            all images, a group a value.
        limit: The most images drawn in all, shared evenly among the groups.
        columns: Images a line.
        side: Side of an image in pixels.

    Returns:
        A PIL image in RGB.
    """
    rows, column, title = _chosen(images, by)
    groups: list[Group] = []
    parts = rows.table.partition_by(column, maintain_order=True) if len(rows) else []
    parts.sort(key=lambda part: _order(column, part[column][0]))
    share = max(1, limit // max(1, len(parts)))
    for part in parts:
        shown = part.head(share)
        label = group_label(part, column)
        if part.height > share:
            label += f" ({part.height}, the first {share} shown)"
        items = [(readable_path(row, images.root), tile_caption(row)) for row in shown.to_dicts()]
        groups.append((label, items))
    return contact_sheet(groups, title=f"{title}: {len(rows)}", columns=columns, side=side)


def group_label(part: pl.DataFrame, column: str) -> str:
    """Return the heading of rows that share one value of ``column``."""
    value = part[column][0]
    if value is None:
        return f"no {column.replace('_', ' ')}"
    if column == "cluster":
        name = part["cluster_name"][0] if "cluster_name" in part.columns else None
        return shortened(f"Cluster {value}" + (f", {name}" if name else ""), LABEL)
    return shortened(str(value).replace("_", " "), LABEL)


def tile_caption(row: dict[str, Any]) -> str:
    """Return what is said under an image: its quality and seed, or else its name."""
    quality, seed = row.get("quality"), row.get("seed")
    parts = [f"{quality:.2f}" if quality is not None else "", f"seed {seed}" if seed else ""]
    return "  ".join(filter(None, parts)) or Path(row["path"]).name


def _chosen(images: ImageSet, by: str) -> tuple[ImageSet, str, str]:
    table = images.table
    if by == "rejected":
        return images.rejected, "rejection", "Rejected"
    if by != "selected":
        images.require(by, f"the stage that adds '{by}'")
        return images, by, by.replace("_", " ").capitalize()
    made = "selected" in table.columns
    rows = images.accepted
    if made:
        rows = rows.filter(pl.col("selected").fill_null(False))
    if "cluster" not in table.columns:
        rows = rows.with_columns(pl.lit("all").alias("cluster"))
    return rows, "cluster", "Selected" if made else "Accepted"


def _order(column: str, value: Any) -> tuple[bool, Any]:
    """Sort groups by value, missing values last, and reasons in the order of the stages."""
    if column == "rejection" and value is not None:
        value = [reason.value for reason in Rejection].index(value)
    return (value is None, 0 if value is None else value)


def _fitted(draw: Any, text: str, font: Any, width: int) -> str:
    """Return a text as one line of a width; of a long one the beginning alone is measured."""
    text = " ".join(text.split())[:width]
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
