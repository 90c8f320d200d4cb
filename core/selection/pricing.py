"""Solve large programs exactly on the few items whose price admits them.

**Bound.** For any vector ``y``, one entry a constraint, and the reduced costs
``r = costs - matrix^T y``, every feasible ``x`` costs at least

    B(y) = (sum over constraints) y * (low if y > 0 else high)
           + (sum over columns) upper * min(0, r)

(weak duality with boxes; no trust in the accuracy of ``y`` is needed). A selection that takes item
``j`` costs at least ``B(y) + max(0, r_j)``.

**Method.** ``y`` comes from the linear relaxation, solved by column generation. The integer program
on the cheapest items gives a selection of cost ``z``. Items with ``B(y) + max(0, r_j) > z`` are in
no better selection; if others than the cheapest remain, the program is solved on all that remain.
"""

from __future__ import annotations

import numpy as np

from .conflicts import IntArray
from .integer_program import Outcome, Program
from .reduction import FloatArray

_CORE = 1500
"""How many of the cheapest items the first integer program sees."""

_SLACK = 1e-3
"""Items this close to the threshold stay, in units of cost: far above any rounding."""


def solve_priced(full: Program, start: IntArray, time_limit: float | None) -> tuple[Outcome, int]:
    """Find the least cost of a program with many items.

    Args:
        full: The program.
        start: Items (ascending) to begin with, likely to hold a feasible selection.
        time_limit: Seconds for each integer program.

    Returns:
        The outcome over all items, and how many of them the last integer program saw.
    """
    found = floor_and_prices(full, start)
    if found is None:
        return full.solve(time_limit), full.items
    floor, price = found
    core = np.sort(np.argsort(price, kind="stable")[:_CORE])
    outcome = full.restricted(core).solve(time_limit)
    if outcome.counts is None or not outcome.optimal:
        return full.solve(time_limit), full.items
    admitted = np.flatnonzero(floor + price <= outcome.cost + _SLACK)
    seen = np.union1d(core, admitted)
    if len(seen) > len(core):
        core = seen
        outcome = full.restricted(core).solve(time_limit)
        if outcome.counts is None:
            return full.solve(time_limit), full.items
    counts = np.zeros(full.items, dtype=np.int64)
    counts[core] = np.asarray(outcome.counts)
    return (
        Outcome(counts, outcome.cost, outcome.bound, outcome.nodes, outcome.optimal),
        len(core),
    )


def floor_and_prices(full: Program, start: IntArray) -> tuple[float, FloatArray] | None:
    """Return a cost that no feasible choice is below, and by how much each item raises it.

    Args:
        full: The program.
        start: Items (ascending) to begin with, likely to hold a feasible selection.

    Returns:
        None when the linear relaxation is not solved.
    """
    duals = _dual_prices(full, start)
    if duals is None:
        return None
    reduced = full.costs - full.matrix.T @ duals
    floor = float(
        np.where(duals > 0, duals * full.low, duals * full.high).sum()
        + (full.upper * np.minimum(0.0, reduced)).sum()
    )
    return floor, np.maximum(0.0, reduced[: full.items])


def _dual_prices(full: Program, start: IntArray) -> FloatArray | None:
    """Return the duals of the linear relaxation; None when it is not solved."""
    from scipy.optimize import linprog
    from scipy.sparse import vstack

    equal = full.low == full.high
    columns = start
    duals = None
    for _ in range(50):
        part = full.restricted(columns)
        rows = part.matrix.tocsr()
        answer = linprog(
            part.costs,
            A_ub=vstack([rows[~equal], -rows[~equal]]) if (~equal).any() else None,
            b_ub=np.append(part.high[~equal], -part.low[~equal]) if (~equal).any() else None,
            A_eq=rows[equal] if equal.any() else None,
            b_eq=part.low[equal] if equal.any() else None,
            bounds=np.column_stack([np.zeros(len(part.upper)), part.upper]),
            method="highs",
        )
        if answer.status != 0:
            if len(columns) == full.items:
                return None
            columns = np.arange(full.items)
            continue
        duals = np.zeros(len(full.low))
        upper_side, lower_side = np.split(np.asarray(answer.ineqlin.marginals), 2)
        duals[~equal] = upper_side - lower_side
        duals[equal] = answer.eqlin.marginals
        reduced = (full.costs - full.matrix.T @ duals)[: full.items]
        reduced[columns] = 0.0
        better = np.argsort(reduced, kind="stable")[:_CORE]
        better = better[reduced[better] < -1e-6]
        if len(better) == 0:
            return duals
        columns = np.union1d(columns, better)
    return duals
