"""The image parts of the report: tiles of selected and rejected images, and the list."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

import polars as pl

from ..imageset import ImageSet
from ..rejection_reasons import Rejection, in_words
from .contact_sheet import group_label, tile_caption
from .thumbnails import data_uri, readable_path, thumbnails

MAX_SELECTED = 400
MAX_REJECTED = 10
MAX_ROWS = 5_000
OF_PHOTOGRAPHS = "seed_document_quality"
"""The column that a set has whose quality is the calibrated one, measured on faces."""

REASONS = {
    Rejection.UNREADABLE: "The file could not be read as an image.",
    Rejection.NO_FACE: "No face was found.",
    Rejection.SEVERAL_FACES: "More than one face was found.",
    Rejection.LOW_CONFIDENCE: "The detector was not sure enough of the face.",
    Rejection.FACE_TOO_SMALL: "The face takes too little of the image.",
    Rejection.IDENTITY_MISMATCH: "The face does not resemble the character enough.",
    Rejection.LOW_QUALITY: "Sharpness, contrast and confidence together are below the minimum.",
    Rejection.NO_CROP: "The crop that was asked for can't be had from the image.",
    Rejection.DUPLICATE: "Nearly the same image is in the set, with a better score.",
    Rejection.QUOTA: "Good enough, but the balanced optimum is better without it.",
    Rejection.VETO: "Left out by a decision.",
}


def selected_tiles(chosen: ImageSet, names: Mapping[str, str]) -> str:
    """Show the selected images, a group a cluster, in falling quality."""
    table = chosen.table
    if not table.height:
        return '<p class="quiet">No image was selected.</p>'
    if "cluster" not in table.columns:
        table = table.with_columns(pl.lit(None).alias("cluster"))
    if "quality" in table.columns:
        table = table.sort("quality", descending=True, nulls_last=True, maintain_order=True)
    table = table.sort("cluster", nulls_last=True, maintain_order=True)
    shown = table.head(MAX_SELECTED)
    parts = []
    for part in shown.partition_by("cluster", maintain_order=True):
        title = "" if part["cluster"][0] is None else group_label(part, "cluster")
        if title:
            parts.append(f'<h3>{escape(title)} <span class="quiet">{part.height}</span></h3>')
        parts.append(_tiles(ImageSet(part, chosen.root), names))
    if table.height > shown.height:
        parts.append(f'<p class="quiet">{table.height - shown.height:,} more in the folder.</p>')
    return "".join(parts)


def rejected_tiles(images: ImageSet) -> str:
    """Show some rejected images of each reason, spread evenly over the rows."""
    parts = []
    for reason in Rejection:
        rows = images.table.filter(pl.col("rejection") == reason.value)
        if not rows.height:
            continue
        count = min(MAX_REJECTED, rows.height)
        shown = rows[[i * rows.height // count for i in range(count)]]
        text = f"{rows.height:,}" + (f", {count} shown" if count < rows.height else "")
        parts.append(
            f"<h3>{escape(in_words(reason).capitalize())} "
            f'<span class="quiet">{text}</span></h3>'
            f'<p class="quiet">{_why(reason, images)}</p>'
            + _tiles(ImageSet(shown, images.root), {}, details=True)
        )
    return "".join(parts) or '<p class="quiet">No image was rejected.</p>'


def _why(reason: Rejection, images: ImageSet) -> str:
    if reason is Rejection.LOW_QUALITY and OF_PHOTOGRAPHS in images.table.columns:
        return "The face is blurred, noisy, badly exposed or too strongly compressed."
    return REASONS[reason]


def candidates_table(table: pl.DataFrame, selected: pl.Series) -> str:
    """List what became of each candidate, with a search field."""
    listed = ["quality", "seed", "cluster", "framing", "pose"]
    if OF_PHOTOGRAPHS in table.columns:
        listed[1:1] = [OF_PHOTOGRAPHS, "face_confidence", "identity_similarity"]
    columns = [c for c in listed if c in table.columns]
    header = "".join(f"<th>{escape(c.replace('_', ' ').capitalize())}</th>" for c in columns)
    rows = []
    for row, chosen in zip(
        table.head(MAX_ROWS).iter_rows(named=True), selected.to_list(), strict=False
    ):
        outcome = (
            '<td class="met">selected</td>'
            if chosen
            else f"<td>{escape(in_words(row['rejection'] or 'not selected'))}</td>"
        )
        cells = "".join(f'<td class="number">{_cell(row[c])}</td>' for c in columns)
        detail = "" if chosen else escape(row["rejection_detail"] or "")
        rows.append(
            f'<tr><td class="path">{escape(row["path"])}</td>{outcome}{cells}<td>{detail}</td></tr>'
        )
    more = (
        f'<p class="quiet">The first {MAX_ROWS:,} of {table.height:,}; all of them are in '
        "provenance.parquet.</p>"
        if table.height > MAX_ROWS
        else ""
    )
    return (
        '<input type="search" id="search" placeholder="Search: a name, a reason, a seed …" '
        'aria-label="Search the candidates"><span id="found" class="quiet"></span>'
        f'<div class="scroll"><table id="rows"><thead><tr><th>Image</th><th>Outcome</th>{header}'
        f"<th>Why</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _tiles(part: ImageSet, names: Mapping[str, str], *, details: bool = False) -> str:
    tiles = []
    rows = part.table.to_dicts()
    paths = [readable_path(row, part.root) for row in rows]
    for row, small in zip(rows, thumbnails(paths), strict=True):
        image = (
            f'<img alt="" loading="lazy" width="{small.width}" height="{small.height}" '
            f'src="{data_uri(small)}">'
            if small is not None
            else '<span class="blank">unreadable</span>'
        )
        if file_name := names.get(row["path"]):
            image = f'<a href="{quote(file_name)}">{image}</a>'
        words = row["rejection_detail"] if details else None
        texts = [row["path"], row.get("caption") or row.get("prompt"), words]
        title = "\n".join(filter(None, texts))
        tiles.append(
            f'<figure title="{escape(title)}">{image}<figcaption>'
            f"{escape(words or tile_caption(row))}</figcaption></figure>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
