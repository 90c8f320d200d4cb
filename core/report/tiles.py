"""The image parts of the report: a tile for every candidate, once, and the list of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from ..counts import how_many, worded
from ..rejection_reasons import Rejection, in_words
from .candidates import OF_PHOTOGRAPHS, Candidates
from .contact_sheet import group_label, tile_caption
from .thumbnails import Embedded
from .why import reason_of

SHOWN = 12
"""Rejected images of a reason that are seen before the rest is opened."""

REASONS = {
    Rejection.UNREADABLE: "The file could not be read as an image.",
    Rejection.NO_FACE: "No face was found.",
    Rejection.SEVERAL_FACES: "More than one face was found.",
    Rejection.LOW_CONFIDENCE: "The detector was not sure enough of the face.",
    Rejection.FACE_TOO_SMALL: "The face takes too little of the image.",
    Rejection.IDENTITY_MISMATCH: "The face does not resemble the character enough.",
    Rejection.OTHER_SUBJECT: "The face resembles another subject more than its own.",
    Rejection.LOW_QUALITY: "Sharpness, contrast and confidence together are below the minimum.",
    Rejection.NO_CROP: "The crop that was asked for can't be had from the image.",
    Rejection.BARS: "Bars of one color at its edges take too much of it.",
    Rejection.SEVERAL_IMAGES: "It is several images in one.",
    Rejection.TEXT: "Text or watermarks take too much of it.",
    Rejection.DUPLICATE: "Nearly the same image is in the set, with a better score.",
    Rejection.QUOTA: "Good enough, but the balanced optimum is better without it.",
    Rejection.VETO: "Left out by a decision.",
}


class Tiles:
    """The tiles of a page: every listed image is embedded once.

    Args:
        candidates: The listed images.
        small: Their thumbnails; None where one could not be read.
        names: Path of an image to its file name in the folder of the page, to link to.
    """

    def __init__(
        self, candidates: Candidates, small: Sequence[Embedded | None], names: Mapping[str, str]
    ) -> None:
        self._rows = candidates.rows
        self._candidates, self._small, self._names = candidates, small, names

    def selected(self) -> str:
        """Show the selected images, a group a cluster, in falling quality."""
        rows = np.flatnonzero(self._candidates.selected).tolist()
        if not rows:
            return '<p class="quiet">No image was selected.</p>'
        rows.sort(key=lambda row: (_falling(self._rows[row].get("cluster")), self._worth(row)))
        parts = []
        for cluster in dict.fromkeys(self._rows[row].get("cluster") for row in rows):
            members = [row for row in rows if self._rows[row].get("cluster") == cluster]
            if cluster is not None:
                part = self._candidates.images.table[members]
                title = escape(group_label(part, "cluster"))
                parts.append(f'<h3>{title} <span class="quiet">{len(members)}</span></h3>')
            parts.append(self._tiles(members))
        return "".join(parts)

    def rejected(self) -> str:
        """Show all other images, a group a reason, the first of each before the rest is opened."""
        parts = []
        for reason in [*Rejection, None]:
            rows = [
                row
                for row in np.flatnonzero(~self._candidates.selected).tolist()
                if self._rows[row]["rejection"] == (reason and reason.value)
            ]
            if not rows:
                continue
            title = in_words(reason).capitalize() if reason else "Not selected"
            parts.append(f'<h3>{escape(title)} <span class="quiet">{len(rows):,}</span></h3>')
            if reason:
                parts.append(f'<p class="quiet">{self._why(reason)}</p>')
            parts.append(self._tiles(rows[:SHOWN]))
            if rest := rows[SHOWN:]:
                parts.append(
                    f"<details><summary>{len(rest):,} more</summary>{self._tiles(rest)}</details>"
                )
        if (more := self._candidates.total - len(self._rows)) > 0:
            parts.append(
                f'<p class="quiet">{more:,} more {worded(more, "is", "are")} not shown on this '
                "page.</p>"
            )
        return "".join(parts) or '<p class="quiet">No image was rejected.</p>'

    def _worth(self, row: int) -> float:
        value = self._rows[row].get("quality")
        return np.inf if value is None else -value

    def _why(self, reason: Rejection) -> str:
        if reason is Rejection.LOW_QUALITY and OF_PHOTOGRAPHS in self._candidates.scores:
            return "The face is blurred, noisy, badly exposed or too strongly compressed."
        return REASONS[reason]

    def _tiles(self, rows: Sequence[int]) -> str:
        return f'<div class="tiles">{"".join(map(self._tile, rows))}</div>'

    def _tile(self, k: int) -> str:
        row, small, chosen = self._rows[k], self._small[k], bool(self._candidates.selected[k])
        image = (
            f'<img alt="" loading="lazy" width="{small.width}" height="{small.height}" '
            f'src="{small.uri}">'
            if small is not None
            else '<span class="blank">unreadable</span>'
        )
        if file_name := self._names.get(row["path"]):
            image = f'<a href="{quote(file_name)}">{image}</a>'
        said = None if chosen else row["rejection_detail"]
        texts = [row["path"], row.get("caption") or row.get("prompt"), self._candidates.why[k]]
        return (
            f'<figure id="i{k}" title="{escape(chr(10).join(filter(None, texts)))}">{image}'
            f"<figcaption>{escape(said or tile_caption(row))}</figcaption></figure>"
        )


def candidates_table(candidates: Candidates) -> str:
    """List what became of each candidate, with a search field."""
    listed = ["quality", "seed", "cluster", "framing", "pose"]
    table = candidates.images.table
    if OF_PHOTOGRAPHS in table.columns:
        listed[1:1] = [OF_PHOTOGRAPHS, "face_confidence", "identity_similarity"]
    columns = [c for c in listed if c in table.columns]
    header = "".join(f"<th>{escape(c.replace('_', ' ').capitalize())}</th>" for c in columns)
    rows = []
    for k, (row, chosen) in enumerate(
        zip(candidates.rows, candidates.selected.tolist(), strict=True)
    ):
        outcome = (
            '<td class="met">selected</td>'
            if chosen
            else f"<td>{escape(reason_of(row, chosen))}</td>"
        )
        cells = "".join(f'<td class="number">{_cell(row[c])}</td>' for c in columns)
        why = "<br>".join(map(escape, candidates.why[k].split("\n")))
        rows.append(
            f'<tr><td class="path"><a href="#i{k}">{escape(row["path"])}</a></td>{outcome}{cells}'
            f"<td>{why}</td></tr>"
        )
    more = (
        f'<p class="quiet">{len(rows):,} of {candidates.total:,}, all that are selected among '
        "them; all of them are in provenance.parquet.</p>"
        if candidates.total > len(rows)
        else ""
    )
    return (
        '<input type="search" id="search" placeholder="Search: a name, a reason, a seed …" '
        'aria-label="Search the candidates"><span id="found" class="quiet"></span>'
        f'<div class="scroll"><table id="rows"><thead><tr><th>Image</th><th>Outcome</th>{header}'
        f"<th>Why, and what if</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def duplicate_groups(candidates: Candidates, most: int = 500) -> str:
    """List the groups of near-duplicates, with what was kept of each."""
    table = candidates.images.table
    if "duplicate_group" not in table.columns:
        return '<p class="quiet">Near-duplicates were not looked for.</p>'
    groups: dict[int, list[int]] = {}
    for k, number in enumerate(table["duplicate_group"].to_list()):
        if number is not None:
            groups.setdefault(number, []).append(k)
    if not groups:
        return '<p class="quiet">There are no near-duplicates.</p>'
    rows, names = candidates.rows, table["path"].to_list()

    def link(k: int, said: str) -> str:
        return f'<li><a href="#i{k}">{escape(names[k])}</a> <span class="quiet">{said}</span></li>'

    parts = []
    for number in sorted(groups)[:most]:
        kept = [k for k in groups[number] if candidates.selected[k]]
        left = [k for k in groups[number] if not candidates.selected[k]]
        said = f"{len(kept)} of {len(groups[number])} selected"
        items = [link(k, "selected") for k in kept]
        items += [
            link(k, escape(rows[k]["rejection_detail"] or reason_of(rows[k], selected=False)))
            for k in left
        ]
        shown = " ".join(map(str, kept + left))
        parts.append(
            f'<li class="group" data-shown="{shown}"><b>Group {number + 1}</b> '
            f'<span class="{"met" if kept else "quiet"}">{said}</span>'
            f"<ul>{''.join(items)}</ul></li>"
        )
    more = len(groups) - len(parts)
    return (
        f"<details><summary>{how_many(len(groups), 'group')} of near-duplicates, "
        f"{how_many(sum(map(len, groups.values())), 'image')}</summary>"
        f'<ul class="groups">{"".join(parts)}</ul>'
        + (
            f'<p class="quiet">{how_many(more, "more group is", "more groups are")} not listed.</p>'
            if more
            else ""
        )
        + "</details>"
    )


def _falling(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
