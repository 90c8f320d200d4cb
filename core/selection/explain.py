"""Why an image was not selected, and why a quota was not met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..counts import how_many, worded
from .conflicts import Conflicts, IntArray
from .integer_program import SolverError
from .reduction import FloatArray
from .relaxation import largest_selection
from .resolve import ResolvedQuota
from .result import Cause, Relaxation

BoolArray = npt.NDArray[np.bool_]


def nearest_selected(
    pairs: IntArray, similarities: FloatArray | None, chosen: BoolArray
) -> tuple[IntArray, IntArray, FloatArray | None]:
    """Find the rows in conflict with a selected one, and which.

    Args:
        pairs: Shape ``(m, 2)``, over the candidates.
        similarities: Shape ``(m,)``, or None where unknown.
        chosen: Which candidates are selected.

    Returns:
        The rows that are not selected but in conflict, ascending; for each the most similar
        selected row (the earlier at a tie); and the similarity.
    """
    both = np.concatenate([pairs, pairs[:, ::-1]])
    known = similarities if similarities is not None else np.zeros(len(pairs))
    similarity = np.concatenate([known, known])
    relevant = chosen[both[:, 1]] & ~chosen[both[:, 0]]
    both, similarity = both[relevant], similarity[relevant]
    order = np.lexsort((both[:, 1], -similarity, both[:, 0]))
    both, similarity = both[order], similarity[order]
    rows, first = np.unique(both[:, 0], return_index=True)
    return rows, both[first, 1], similarity[first] if similarities is not None else None


def places_taken(
    values: FloatArray,
    chosen: BoolArray,
    resolved: Sequence[ResolvedQuota],
    *,
    kept: bool = False,
) -> npt.NDArray[np.object_]:
    """Say of each candidate why there is no place for it, were it not selected.

    The first quota, in the order listed, whose value is full is named. ``kept`` says whether
    decisions keep some of the selected.
    """
    others = "the decisions and other quotas" if kept else "other quotas"
    rules = "the quotas and the decisions" if kept else "the quotas"
    total = int(chosen.sum())
    worst = values[chosen].min(initial=np.inf)
    texts = np.where(
        values <= worst,
        f"the {how_many(total, 'place')} went to images as good or better",
        f"no selection of {total} that includes it and keeps {rules} is better",
    ).astype(object)
    undecided = np.ones(len(values), dtype=bool)
    for strict in (True, False):
        for item in resolved:
            bounds, column = item.bounds, item.quota.column
            got = np.bincount(
                bounds.codes[chosen & (bounds.codes >= 0)], minlength=len(bounds.maximum)
            )
            lowest = np.full(len(bounds.maximum) + 1, -np.inf)
            for value in np.flatnonzero(got):
                lowest[value] = values[chosen & (bounds.codes == value)].min()
            full = np.append(got >= bounds.maximum, False)[bounds.codes]
            here = undecided & full
            if strict:
                here &= values <= lowest[bounds.codes]
            ending = " as good or better" if strict else f", the best in balance with {others}"
            words = np.asarray(
                [
                    f"{column} {label} already has {number}{ending}"
                    for label, number in zip(item.labels, got, strict=True)
                ],
                dtype=object,
            )
            texts[here] = words[bounds.codes[here]]
            undecided &= ~here
    return texts


def explain_relaxations(
    resolved: Sequence[ResolvedQuota],
    conflicts: Conflicts,
    chosen: BoolArray,
    total: int,
    time_limit: float | None,
    *,
    kept: int = 0,
) -> list[Relaxation]:
    """List what was missed, the total first, then the quotas as listed; without advice yet.

    ``kept`` says how many of the selected a decision keeps.
    """
    found: list[Relaxation] = []
    got_total = int(chosen.sum())
    if got_total < total:
        cause, reason = (
            Cause.FEW,
            f"there {worded(len(chosen), 'is', 'are')} only {how_many(len(chosen), 'candidate')}",
        )
        if got_total < len(chosen):
            cause = Cause.ALIKE
            reason = (
                f"of {how_many(len(chosen), 'candidate')} only {got_total:,} "
                f"{worded(got_total, 'is', 'are')} left when of each pair of "
                "near-duplicates one is taken" + (" and the decisions are followed" if kept else "")
            )
        missing = total - got_total
        numbers = (total, total, got_total, missing, got_total)
        found.append(Relaxation("total", None, *numbers, cause, reason, advice=""))
    for listed, item in enumerate(resolved):
        bounds, column = item.bounds, item.quota.column
        counted = bounds.codes >= 0
        got = np.bincount(bounds.codes[counted & chosen], minlength=len(bounds.minimum))
        before = f"the total of {got_total}" + (", the decisions" if kept else "")
        first = [before] + [other.quota.column for other in resolved[:listed]]
        for value, label in enumerate(item.labels):
            least, most = int(bounds.minimum[value]), int(bounds.maximum[value])
            number = int(got[value])
            if least <= number <= most:
                continue
            members = np.flatnonzero(bounds.codes == value)
            why = (
                _why_short(item, label, members, least, conflicts, got_total, time_limit)
                if number < least
                else _why_beyond(item, len(members), got_total)
            ) or _Why(
                Cause.OTHERS,
                f"{_listing(first)} {'comes' if len(first) == 1 and not kept else 'come'} first",
                len(members),
            )
            amount = max(least - number, number - most)
            numbers = (least, most, number, amount, why.available)
            found.append(Relaxation(column, label, *numbers, why.cause, why.reason, advice=""))
    return found


class _Why(NamedTuple):
    cause: Cause
    reason: str
    available: int


def _why_short(
    item: ResolvedQuota,
    label: object,
    members: IntArray,
    least: int,
    conflicts: Conflicts,
    total: int,
    time_limit: float | None,
) -> _Why | None:
    named = f"{item.quota.column} {label}"
    if len(members) == 0:
        return _Why(Cause.FEW, f"{named} has no candidates", 0)
    if len(members) < least:
        reason = f"{named} has only {how_many(len(members), 'candidate')}"
        return _Why(Cause.FEW, reason, len(members))
    try:
        apart = largest_selection([], [], conflicts, members, least, time_limit)
    except SolverError:
        apart = least
    if apart < least:
        reason = (
            f"{named} has {how_many(len(members), 'candidate')}, but only {apart} when of each "
            "pair of near-duplicates one is taken"
        )
        return _Why(Cause.ALIKE, reason, apart)
    asked = int(item.bounds.minimum.sum())
    if asked > total:
        reason = (
            f"the minimums of {item.quota.column} sum to {asked}, more than the total of {total}"
        )
        return _Why(Cause.TOTAL, reason, len(members))
    return None


def _why_beyond(item: ResolvedQuota, available: int, total: int) -> _Why | None:
    bounds = item.bounds
    present = np.bincount(bounds.codes[bounds.codes >= 0], minlength=len(bounds.maximum))
    room = int(np.minimum(present, bounds.maximum).sum() + (bounds.codes < 0).sum())
    if room < total:
        reason = (
            f"within the maximums there {worded(room, 'is', 'are')} only "
            f"{how_many(room, 'candidate')} for the total of {total}"
        )
        return _Why(Cause.TOTAL, reason, available)
    return None


def _listing(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    quotas = "the quota on " if len(parts) == 2 else "the quotas on "
    return f"{parts[0]} and {quotas}{', '.join(parts[1:])}"
