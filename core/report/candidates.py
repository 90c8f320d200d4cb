"""Every candidate of a report: what is known of it, in rows that the page's parts share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..imageset import ImageSet
from ..selection.decisions import contents
from .composition import shortened
from .likeness import Likeness, likeness
from .why import forced_in, is_decidable, reason_of

if TYPE_CHECKING:
    from ..selection import Price, Selection

MAX_LETTERS = 2000
"""The most of a text, such as a prompt, that is told of each candidate."""
MAX_ROWS = 5_000
"""The most images that a page lists; all that are selected are among them."""

OF_PHOTOGRAPHS = "seed_document_quality"
"""The column that a set has whose quality is the calibrated one, measured on faces."""

SCORES = {
    "quality": "Quality",
    OF_PHOTOGRAPHS: "Seed document quality",
    "face_confidence": "Face confidence",
    "face_share": "Face share",
    "identity_similarity": "Identity similarity",
    "sharpness_score": "Sharpness",
    "contrast_score": "Contrast",
    "confidence_score": "Confidence score",
}
"""Columns of scores that the page shows and sorts by, and what they are called."""

_THRESHOLDS = {
    "quality": ("quality", "minimum"),
    "face_confidence": ("faces", "minimum_confidence"),
    "face_share": ("faces", "minimum_share"),
    "identity_similarity": ("faces", "minimum_identity"),
}


@dataclass(frozen=True, eq=False)
class Candidates:
    """The listed rows of a set.

    Attributes:
        images: The listed rows.
        total: How many candidates there are.
        selected: Which rows are selected.
        prices: What forcing each row in would change, where that is known.
        why: Why each row is not selected and what forcing it in would change, in sentences, a
            line each; empty for most of the selected.
        like: What the embeddings say.
        scores: The columns of scores that the set has.
        thresholds: By column, the least score that passes, where known.
    """

    images: ImageSet
    total: int
    selected: npt.NDArray[np.bool_]
    prices: Mapping[int, Price]
    why: tuple[str, ...]
    like: Likeness | None
    scores: tuple[str, ...]
    thresholds: Mapping[str, float]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as mappings, without vectors, and with texts that a page can hold."""
        table = self.images.table
        kept = [name for name, kind in table.schema.items() if kind != pl.Binary]
        return [
            {
                name: shortened(value, MAX_LETTERS) if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in table.select(kept).to_dicts()
        ]


def listed(
    images: ImageSet,
    selected: pl.Series,
    selection: Selection | None,
    recipe: Mapping[str, Any] | None,
    minimum_quality: float | None,
    minimums: Mapping[str, float] | None = None,
) -> Candidates:
    """Gather what a page says of each candidate; ``minimums`` go over the recipe's thresholds."""
    from ..selection import prices

    mask = selected.to_numpy()
    found = {} if selection is None else prices(selection)
    rows = np.arange(len(images))
    if len(rows) > MAX_ROWS:
        first = np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)])[:MAX_ROWS]
        rows = np.sort(first)
    shown = ImageSet(images.table[rows.tolist()], images.root)
    place = {int(row): k for k, row in enumerate(rows.tolist())}
    thresholds = {
        column: float(value)
        for column, (section, key) in _THRESHOLDS.items()
        if isinstance(value := _table(recipe, section).get(key), int | float)
    }
    if minimum_quality is not None:
        thresholds["quality"] = minimum_quality
    thresholds |= minimums or {}
    return Candidates(
        shown,
        len(images),
        mask[rows],
        {place[row]: _placed(price, place) for row, price in found.items() if row in place},
        tuple(
            _why(
                images.table, rows, mask, found, "quality" if selection is None else selection.value
            )
        ),
        likeness(shown, mask[rows]),
        tuple(name for name in SCORES if name in images.table.columns),
        thresholds,
    )


def data(
    candidates: Candidates,
    *,
    name: str,
    decisions: Sequence[Mapping[str, str]],
    fingerprint: str,
) -> str:
    """Return what the page's script works with, as JSON that is safe within a script element."""
    like = candidates.like
    near: dict[int, tuple[int, float]] = {}
    if like is not None:
        near = {
            int(row): (int(other), round(float(cosine), 4))
            for row, other, cosine in zip(like.rows, like.nearest, like.similarity, strict=True)
            if other >= 0
        }
    rows = []
    known_by = contents(candidates.images.table).to_list()
    for k, (row, chosen) in enumerate(
        zip(candidates.rows, candidates.selected.tolist(), strict=True)
    ):
        price = candidates.prices.get(k)
        cost = None if price is None or price.cost is None else price.cost
        rows.append(
            {
                "path": row["path"],
                "hash": known_by[k],
                "size": [row["width"], row["height"]],
                "reason": reason_of(row, chosen),
                "open": is_decidable(row, chosen),
                "seed": row["seed"],
                "scenario": row["scenario_name"] or row["scenario"],
                "cluster": row.get("cluster"),
                "group": row.get("duplicate_group"),
                "scores": [_rounded(row[column]) for column in candidates.scores],
                "price": _rounded(cost),
                "leaves": [] if price is None else list(price.leaves),
                "enters": [] if price is None else list(price.enters),
                "near": near.get(k),
                "prompt": row.get("caption") or row.get("prompt"),
            }
        )
    known = {
        row["cluster"]: row.get("cluster_name")
        for row in candidates.rows
        if row.get("cluster") is not None
    }
    values = {
        "name": name,
        "fingerprint": fingerprint,
        "scores": [
            {"label": SCORES[column], "least": candidates.thresholds.get(column)}
            for column in candidates.scores
        ],
        "clusters": {str(key): known[key] for key in sorted(known)},
        "decisions": list(decisions),
        "rows": rows,
    }
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _why(
    table: pl.DataFrame,
    rows: npt.NDArray[np.int64],
    selected: npt.NDArray[np.bool_],
    found: Mapping[int, Price],
    value: str,
) -> list[str]:
    names, details = table["path"].to_list(), table["rejection_detail"].to_list()
    worth = table[value].to_list() if value in table.columns else [None] * len(names)
    decided = table["decision"].to_list() if "decision" in table.columns else [None] * len(names)
    texts = []
    for row in rows.tolist():
        parts = []
        if selected[row]:
            parts.append("kept by a decision" if decided[row] == "keep" else "")
        else:
            parts.append(details[row] or "")
            if row in found:
                parts.append(forced_in(found[row], names, worth, value))
        texts.append("\n".join(filter(None, parts)))
    return texts


def _placed(price: Price, place: Mapping[int, int]) -> Price:
    leaves = tuple(place[row] for row in price.leaves if row in place)
    enters = tuple(place[row] for row in price.enters if row in place)
    return replace(price, leaves=leaves, enters=enters)


def _table(recipe: Mapping[str, Any] | None, section: str) -> Mapping[str, Any]:
    found = (recipe or {}).get(section)
    return found if isinstance(found, Mapping) else {}


def _rounded(value: Any) -> float | None:
    if not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return round(float(value), 5)
