"""The exact optimum on plain arrays: reduce, solve, and, if nothing fits, relax and solve again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .conflicts import Conflicts, IntArray
from .integer_program import Outcome, SolverError, program
from .pricing import solve_priced
from .reduction import Bounds, FloatArray, classes, needed_rows
from .relaxation import Relaxed, relax

__all__ = ["Bounds", "Solution", "SolverError", "solve"]

_COST_RANGE = 2.0**14
"""Values are scaled to this range: HiGHS ends at an absolute gap of 1e-6, here 6e-11 of a range."""

_ROUNDING = 1e-5
"""A gap below this many units of cost (6e-10 of the range of the values) is rounding."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A best selection, and why it is one.

    Attributes:
        rows: The selected rows, ascending.
        objective: The exact sum of their values, rounded once.
        bound: No selection can be worth more than this.
        gap: ``(bound - objective) / max(1, |objective|)``; 0 when proven optimal.
        optimal: Whether the solver finished its proof (it does unless a time limit stops it).
        nodes: Nodes of the branch-and-bound tree.
        deviations: By how many rows each quota is missed in all; the least possible in order.
        considered: How many rows were left in the model after dropping those never needed.
    """

    rows: IntArray
    objective: float
    bound: float
    gap: float
    optimal: bool
    nodes: int
    deviations: tuple[int, ...]
    considered: int


def solve(
    values: npt.ArrayLike,
    groups: Sequence[Bounds],
    conflicts: npt.ArrayLike | None,
    total: int,
    *,
    keep: npt.ArrayLike | None = None,
    time_limit: float | None = None,
    price_above: int = 2000,
) -> Solution:
    """Select the ``total`` rows of the greatest total value under quotas and conflicts.

    When no selection satisfies everything, the quotas are relaxed as :mod:`.relaxation` says, and
    the best selection under the least relaxation is returned.

    Ties: of two rows that every quota counts alike, conflict-free and equal in value, the earlier
    is selected. Between other selections of equal value the solver's choice is deterministic: the
    same rows in the same order give the same selection.

    Args:
        values: Finite worth of each row, shape ``(n,)``, ``n >= 1``.
        groups: Quotas, the most important first.
        conflicts: Pairs of rows of which at most one may be selected, shape ``(m, 2)``; not
            transitive.
        total: How many rows to select, at least 1.
        keep: Rows that are selected whatever they are worth: distinct, at most ``total``, and no
            two of them in conflict.
        time_limit: Seconds for each integer program; ``None`` for as long as the proof takes.
        price_above: Models of more rows than this are solved through :mod:`.pricing`; the optimum
            is the same.

    Raises:
        SolverError: A time limit passed before any selection was found.
    """
    worth = np.asarray(values, dtype=np.float64)
    graph = Conflicts.of(conflicts, len(worth))
    kept = np.sort(np.asarray([] if keep is None else keep, dtype=np.int64))
    if len(kept):
        return _around(worth, groups, graph, total, kept, time_limit, price_above)
    found = None
    relaxed = Relaxed(total, (0,) * len(groups))
    if total <= len(worth):
        found = _best(worth, groups, graph, relaxed, time_limit, price_above)
    if found is None:
        relaxed = relax(groups, graph, len(worth), total, time_limit)
        found = _best(worth, groups, graph, relaxed, time_limit, price_above)
    if found is None:
        raise SolverError("the relaxed quotas were found infeasible, a numerical failure")
    rows, outcome, considered = found
    objective = math.fsum(worth[rows])
    low, unit = scale(worth)
    bound = max(objective, -outcome.bound * unit + low * relaxed.total)
    gap = (bound - objective) / max(1.0, abs(objective))
    rounding = _ROUNDING * unit + 1e-12 * relaxed.total * float(np.abs(worth).max())
    if outcome.optimal and bound - objective <= rounding:
        bound, gap = objective, 0.0
    return Solution(
        rows, objective, bound, gap, outcome.optimal, outcome.nodes, relaxed.deviations, considered
    )


def _around(
    worth: FloatArray,
    groups: Sequence[Bounds],
    graph: Conflicts,
    total: int,
    kept: IntArray,
    time_limit: float | None,
    price_above: int,
) -> Solution:
    """Select the best rows beside those that are kept.

    Taking the kept rows for granted is exact: what is left is the same problem over the rows that
    conflict with none of them, with as many places fewer, and every quota's numbers lowered by
    what they count for. Where they exceed a maximum, they miss the quota by a constant.
    """
    rest, lowered, beyond = beside(kept, groups, graph)
    places = total - len(kept)
    if places < 1 or not len(rest):
        missed = [
            more + int(np.maximum(group.minimum, 0).sum())
            for more, group in zip(beyond, lowered, strict=True)
        ]
        objective = math.fsum(worth[kept])
        return Solution(kept, objective, objective, 0.0, True, 0, tuple(missed), len(kept))
    pairs = graph.among(rest).pairs
    other = solve(
        worth[rest], lowered, pairs, places, time_limit=time_limit, price_above=price_above
    )
    rows = np.sort(np.concatenate([kept, rest[other.rows]]))
    objective = math.fsum(worth[rows])
    bound = objective if other.gap == 0 else max(objective, other.bound + math.fsum(worth[kept]))
    return Solution(
        rows,
        objective,
        bound,
        (bound - objective) / max(1.0, abs(objective)),
        other.optimal,
        other.nodes,
        tuple(a + b for a, b in zip(beyond, other.deviations, strict=True)),
        other.considered + len(kept),
    )


def beside(
    kept: IntArray, groups: Sequence[Bounds], graph: Conflicts
) -> tuple[IntArray, list[Bounds], list[int]]:
    """Take rows for granted.

    Returns:
        The other rows that conflict with none of them, the quotas over these, and by how much the
        kept rows exceed each quota already.
    """
    free = np.ones(len(graph.starts) - 1, dtype=bool)
    free[kept] = False
    for row in kept:
        free[graph.around(int(row))] = False
    rest = np.flatnonzero(free)
    beyond, lowered = [], []
    for group in groups:
        codes = group.codes[kept]
        got = np.bincount(codes[codes >= 0], minlength=len(group.minimum))
        beyond.append(int(np.maximum(got - group.maximum, 0).sum()))
        least, most = np.maximum(group.minimum - got, 0), np.maximum(group.maximum - got, 0)
        lowered.append(Bounds(group.codes[rest], least, most))
    return rest, lowered, beyond


def scale(values: FloatArray) -> tuple[float, float]:
    """Return the least value, and the value of one unit of cost."""
    low = float(values.min())
    spread = float(values.max()) - low
    # Values less apart than that count as equal: a unit of their range would be zero.
    return low, max(spread / _COST_RANGE, float(np.finfo(np.float64).tiny)) if spread else 1.0


def _best(
    values: FloatArray,
    groups: Sequence[Bounds],
    conflicts: Conflicts,
    relaxed: Relaxed,
    time_limit: float | None,
    price_above: int,
) -> tuple[IntArray, Outcome, int] | None:
    """Solve with every quota missed by no more than its share; None when that is impossible."""
    total = relaxed.total
    groups = [group.binding(total) for group in groups]
    class_of = classes([group.codes for group in groups], len(values))
    member = np.zeros(int(class_of.max()) + 1, dtype=np.int64)
    member[class_of] = np.arange(len(values))  # any row of a class speaks for it
    limits = np.full(len(member), total, dtype=np.int64)
    for group, missed in zip(groups, relaxed.deviations, strict=True):
        # A value may go beyond its maximum by no more than the whole quota is missed.
        code = group.codes[member]
        most = np.where(code < 0, total, np.append(group.maximum, 0)[code] + missed)
        limits = np.minimum(limits, most)
    kept = needed_rows(values, class_of, limits, conflicts, total)
    if len(kept) < total:
        return None
    low, unit = scale(values)
    written = program(
        -(values[kept] - low) / unit,
        np.ones(len(kept), dtype=np.int64),
        [group.of(kept) for group in groups],
        relaxed.deviations,
        conflicts.among(kept),
        total,
        total,
    )
    if len(kept) > price_above:
        start = promising(values[kept], [group.of(kept) for group in groups], total)
        outcome, considered = solve_priced(written, start, time_limit)
    else:
        outcome, considered = written.solve(time_limit), len(kept)
    if outcome.counts is None:
        return None
    return kept[outcome.counts > 0], outcome, considered


def promising(values: FloatArray, groups: Sequence[Bounds], total: int) -> IntArray:
    """Return the best rows of each value, ascending: they likely hold a feasible selection."""
    chosen = [np.argsort(-values, kind="stable")[: 3 * total]]
    for group in groups:
        order = np.lexsort((-values, group.codes))
        codes = group.codes[order]
        place = np.arange(len(codes)) - np.searchsorted(codes, codes)
        chosen.append(order[(codes >= 0) & (place < total)])
    return np.unique(np.concatenate(chosen))
