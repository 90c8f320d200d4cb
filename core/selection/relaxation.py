"""How far quotas that cannot all be met must be missed, in a stated order.

The order, from what is given up last to what is given up first: the total, then the quotas as
listed. So the quota listed last is relaxed first, and fewer than ``total`` rows are selected only
when even without any quota there are not enough conflict-free rows.

A quota is missed by the sum, over its values, of the rows short of the minimum and the rows beyond
the maximum. That sum is made as small as possible for the first quota, then, keeping it, for the
second, and so on. Which values bear it is then decided by the value of the whole selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .conflicts import Conflicts, IntArray
from .integer_program import SolverError, program
from .reduction import Bounds, classes, needed_rows


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The least that must be given up.

    Attributes:
        total: How many rows can be selected.
        deviations: By how many rows each quota must be missed.
    """

    total: int
    deviations: tuple[int, ...]


def relax(
    groups: Sequence[Bounds],
    conflicts: Conflicts,
    rows: int,
    total: int,
    time_limit: float | None,
) -> Relaxed:
    """Find the lexicographically least relaxation, one small integer program for each quota.

    Values do not matter here, so the rows of a class that are free of conflicts are one integer
    variable, and rows with conflicts enter only where a class has fewer than ``total`` free ones
    (the rule of :mod:`.reduction`, with free rows ordered first).
    """
    reachable = largest_selection([], [], conflicts, np.arange(rows), total, time_limit)
    deviations: list[int] = []
    for listed in range(1, len(groups) + 1):
        known = [group.binding(total) for group in groups[:listed]]
        budgets: list[int | None] = [*deviations, None]
        items, copies, inner = _items(known, conflicts, rows, total)
        outcome = program(
            np.zeros(len(items)),
            copies,
            [group.of(items) for group in known],
            budgets,
            inner,
            reachable,
            reachable,
        ).solve(time_limit)
        if outcome.counts is None or not outcome.optimal:
            raise SolverError("the least relaxation of the quotas was not found in time")
        deviations.append(round(outcome.cost))
    return Relaxed(reachable, tuple(deviations))


def largest_selection(
    groups: Sequence[Bounds],
    budgets: Sequence[int],
    conflicts: Conflicts,
    subset: IntArray,
    at_most: int,
    time_limit: float | None,
) -> int:
    """Return how many rows of ``subset`` (ascending) can be selected together, up to a limit."""
    inner = conflicts.among(subset)
    known = [group.of(subset).binding(at_most) for group in groups]
    if not known and len(inner.pairs) == 0:
        return min(at_most, len(subset))
    items, copies, kept = _items(known, inner, len(subset), at_most)
    if not known and len(kept.pairs) == 0:
        return min(at_most, int(copies.sum()))
    outcome = program(
        np.zeros(len(items)),
        copies,
        [group.of(items) for group in known],
        budgets,
        kept,
        None,
        at_most,
    ).solve(time_limit)
    if outcome.counts is None or not outcome.optimal:
        raise SolverError("the largest selection without near-duplicates was not found in time")
    return int(outcome.counts.sum())


def _items(
    groups: Sequence[Bounds], conflicts: Conflicts, rows: int, total: int
) -> tuple[IntArray, IntArray, Conflicts]:
    """Merge interchangeable rows: a representative row, its copies, and the conflicts left.

    ``total`` bounds how many rows are taken in all.
    """
    class_of = classes([group.codes for group in groups], rows)
    free = conflicts.degrees == 0
    limits = np.full(int(class_of.max(initial=0)) + 1, total, dtype=np.int64)
    kept = needed_rows(free.astype(np.float64), class_of, limits, conflicts, total)
    kept_free = kept[free[kept]]
    _, first, counted = np.unique(class_of[kept_free], return_index=True, return_counts=True)
    laden = kept[~free[kept]]
    items = np.concatenate([kept_free[first], laden])
    copies = np.concatenate([counted, np.ones(len(laden), dtype=np.int64)])
    order = np.argsort(items, kind="stable")
    items = items[order]
    return items, copies[order], conflicts.among(items)
