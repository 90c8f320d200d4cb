"""What to do about a quota that could not be met: one plain sentence, with the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ..counts import how_many
from ..imageset import strangers
from ..rejection_reasons import Rejection
from .resolve import ResolvedQuota
from .result import Cause, Relaxation

_SHOWN = 4
_PLANNED = frozenset({"subject", "scenario", "scenario_name", "kind", "category"})
_THRESHOLDS = {
    Rejection.LOW_QUALITY.value: ("minimum quality", "quality"),
    Rejection.LOW_CONFIDENCE.value: ("minimum face confidence", "face_confidence"),
    Rejection.IDENTITY_MISMATCH.value: ("minimum identity similarity", "identity_similarity"),
    Rejection.FACE_TOO_SMALL.value: ("smallest face", ""),
}
"""By reason: what the threshold is called, and the column that it is compared with."""


def advise(
    table: pl.DataFrame,
    relaxations: Sequence[Relaxation],
    resolved: Sequence[ResolvedQuota],
    total: int,
) -> list[Relaxation]:
    """Fill in ``advice``: the same sentence for all values of one quota.

    Args:
        table: Every image, the rejected too: they tell which threshold took the missing ones.
        relaxations: What could not be met.
        resolved: The quotas as listed.
        total: How many images are selected.
    """
    sentences: dict[tuple[str, bool], str] = {}
    for relaxation in relaxations:
        key = (relaxation.column, relaxation.value is None)
        if key in sentences:
            continue
        if relaxation.value is None:
            sentences[key] = _for_total(table, relaxation)
            continue
        missed = [r for r in relaxations if r.column == key[0] and r.value is not None]
        place = next(i for i, item in enumerate(resolved) if item.quota.column == key[0])
        before = [item.quota.column for item in resolved[:place]]
        remedies = _remedies(table, missed, resolved[place], before, total)
        sentences[key] = f"To meet the quota on {key[0]}, {_either(remedies)}."
    return [replace(r, advice=sentences[r.column, r.value is None]) for r in relaxations]


def _for_total(table: pl.DataFrame, missed: Relaxation) -> str:
    more = "make more takes or seeds" if _generated(table) else "add images"
    if missed.cause is Cause.ALIKE:
        remedies = [f"{more} that differ more", "raise the duplicate threshold"]
    else:
        rejected = table.filter(pl.col("rejection").is_not_null())
        remedies = [more, *_lower_threshold([rejected], [missed.amount])]
    remedies.append(f"ask for {missed.available}")
    numbers = f"{missed.minimum} ({missed.available} available)"
    return f"To reach the total of {numbers}, {_either(remedies)}."


def _remedies(
    table: pl.DataFrame,
    missed: Sequence[Relaxation],
    item: ResolvedQuota,
    before: Sequence[str],
    total: int,
) -> list[str]:
    column, bounds = item.quota.column, item.bounds
    fewer = "ask for no more than there are"
    few = [r for r in missed if r.cause is Cause.FEW]
    if few:
        unknown = _unknown(table, column, few)
        return [
            *unknown,
            _make_more(table, column, few),
            *_lower_threshold(*_rejected(table, column, few)),
            fewer,
        ]
    alike = [r for r in missed if r.cause is Cause.ALIKE]
    if alike:
        more = f"{_make_more(table, column, alike)} that differ more"
        return [more, "raise the duplicate threshold", fewer]
    if any(r.cause is Cause.TOTAL for r in missed):
        if missed[0].selected < missed[0].minimum:
            asked = int(bounds.minimum.sum())
            return [
                f"lower its minimums, which sum to {asked}, to {total} in all",
                f"raise the total from {total} to {asked}",
            ]
        present = np.bincount(bounds.codes[bounds.codes >= 0], minlength=len(bounds.maximum))
        room = int(np.minimum(present, bounds.maximum).sum() + (bounds.codes < 0).sum())
        return [
            "raise its maximums",
            "add images of other values",
            f"lower the total from {total} to {room}",
        ]
    numbers = _listed(
        [
            f"{_called(table, r)} ({r.available} available, {_wanted(r)} wanted, "
            f"{r.selected} selected)"
            for r in missed
        ]
    )
    if not before:
        return [f"change what is wanted of {numbers}", "lower the total"]
    others = _listed(list(before), shown=len(before))
    return [f"state it before {others}", f"loosen {others}", f"change what is wanted of {numbers}"]


def _make_more(table: pl.DataFrame, column: str, missed: Sequence[Relaxation]) -> str:
    values = _listed(
        [f"{_called(table, r)} ({r.available} available, {r.minimum} wanted)" for r in missed]
    )
    if not _generated(table):
        return f"add images of {column} {values}"
    if column == "seed":
        return f"make more takes of {column} {values}"
    if column in _PLANNED:
        return f"make more takes or seeds of {column} {values}"
    return f"make more takes or seeds of scenarios that show {column} {values}"


def _unknown(table: pl.DataFrame, column: str, missed: Sequence[Relaxation]) -> list[str]:
    """Say which values no image has at all, for they may be misspelt."""
    present = {str(value) for value in table[column].unique().drop_nulls().to_list()}
    strange = [str(r.value) for r in missed if str(r.value) not in present]
    if not strange or not present:
        return []
    return [f"check the spelling of {_listed(strange)} (there are {_listed(sorted(present))})"]


def _rejected(
    table: pl.DataFrame, column: str, missed: Sequence[Relaxation]
) -> tuple[list[pl.DataFrame], list[int]]:
    """Return the rejected images of each value, and how many more of each are needed.

    Where rejected images have no values (they were never clustered, say), all of them, once.
    """
    rejected = table.filter(pl.col("rejection").is_not_null())
    if not rejected[column].drop_nulls().len():
        return [rejected], [len(rejected) + 1]
    text = pl.col(column).cast(pl.String)
    return (
        [rejected.filter(text == str(r.value)) for r in missed],
        [r.minimum - r.available for r in missed],
    )


def _lower_threshold(groups: Sequence[pl.DataFrame], needed: Sequence[int]) -> list[str]:
    """Name the threshold that took most, and how far down it would have to go, where known."""
    groups = [group.filter(~strangers(group)) for group in groups]
    reasons = pl.concat([group["rejection"] for group in groups])
    counts = {reason: int((reasons == reason).sum()) for reason in _THRESHOLDS}
    reason = max(counts, key=lambda name: counts[name])
    if not counts[reason]:
        return []
    name, column = _THRESHOLDS[reason]
    level = math.inf
    for group, count in zip(groups, needed, strict=True):
        scores = pl.Series([], dtype=pl.Float64)
        if column in group.columns:
            scores = group.filter(pl.col("rejection") == reason)[column].drop_nulls()
        enough = scores.sort(descending=True).to_list()[count - 1 : count]
        level = min([level, *enough]) if enough else -math.inf
    if math.isfinite(level):
        return [f"lower the {name} to {math.floor(level * 100) / 100:.2f}"]
    return [f"lower the {name}, which left out {counts[reason]}"]


def _generated(table: pl.DataFrame) -> bool:
    return "seed" in table.columns and table["seed"].null_count() < table.height


def _called(table: pl.DataFrame, missed: Relaxation) -> str:
    """Return the value; of a cluster its name as well, for numbers say little."""
    if missed.column == "cluster" and "cluster_name" in table.columns:
        rows = table.filter(pl.col("cluster").cast(pl.String) == str(missed.value))
        names = rows["cluster_name"].drop_nulls()
        if len(names):
            return f"{missed.value} '{names[0]}'"
    return str(missed.value)


def _wanted(missed: Relaxation) -> str:
    if missed.minimum == missed.maximum:
        return str(missed.minimum)
    below = missed.selected < missed.minimum
    return f"at least {missed.minimum}" if below else f"at most {missed.maximum}"


def _listed(texts: Sequence[str], shown: int = _SHOWN) -> str:
    if len(texts) > shown:
        return f"{', '.join(texts[:shown])} and {how_many(len(texts) - shown, 'other')}"
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _either(remedies: Sequence[str]) -> str:
    return remedies[0] if len(remedies) == 1 else f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
