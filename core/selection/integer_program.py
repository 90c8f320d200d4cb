"""The integer program, as HiGHS reads it through ``scipy.optimize.milp``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CuratorError
from .conflicts import Conflicts, IntArray
from .reduction import Bounds, FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csc_array


class SolverError(CuratorError):
    """The solver ended without an answer."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"The selection was not solved: {message}. Give it more time, or fewer quotas on "
            "columns with many values."
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the solver found: ``counts`` is None when nothing satisfies the constraints."""

    counts: IntArray | None
    cost: float
    bound: float
    nodes: int
    optimal: bool


@dataclass(frozen=True, eq=False)
class Program:
    """``minimise costs . x  with  low <= matrix x <= high, 0 <= x <= upper``.

    The first ``items`` columns count how often each item is taken, in whole numbers; the others
    measure by how much a quota is missed. Every row of the matrix has finite sides.
    """

    costs: FloatArray
    matrix: csc_array
    low: FloatArray
    high: FloatArray
    upper: FloatArray
    items: int

    def restricted(self, items: IntArray) -> Program:
        """Return the program in which only these items may be taken."""
        columns = np.append(items, np.arange(self.items, len(self.costs)))
        return Program(
            self.costs[columns],
            self.matrix[:, columns],
            self.low,
            self.high,
            self.upper[columns],
            len(items),
        )

    def solve(self, time_limit: float | None, forced: int | None = None) -> Outcome:
        """Find the least cost, with gap 0.

        Args:
            time_limit: Seconds; ``None`` for as long as the proof takes.
            forced: An item that is taken once at least.

        Raises:
            SolverError: Neither a solution nor a proof that there is none.
        """
        from scipy.optimize import Bounds as Box
        from scipy.optimize import LinearConstraint, milp

        # scipy's annotations know scalar sides only.
        zero: Any = np.zeros(len(self.costs))
        if forced is not None:
            zero[forced] = 1
        upper: Any = self.upper
        low: Any = self.low
        high: Any = self.high
        integrality = np.zeros(len(self.costs))
        integrality[: self.items] = 1
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if time_limit is not None:
            options["time_limit"] = time_limit
        problem: dict[str, Any] = {
            "bounds": Box(zero, upper),
            "constraints": LinearConstraint(self.matrix, low, high),
            "options": options,
        }
        answer = milp(self.costs, integrality=integrality, **problem)
        if answer.x is None and answer.status == 4:
            # HiGHS gives up on a rare program ("Solve error"). Quotas are missed by whole rows, so
            # that this is the same program, which it then finds another way through.
            answer = milp(self.costs, integrality=np.ones(len(self.costs)), **problem)
        if answer.x is None:
            if answer.status == 1:
                raise SolverError("the time limit passed before any selection was found")
            if answer.status not in (2, 4):
                raise SolverError(str(answer.message))
            return Outcome(None, np.inf, np.inf, 0, answer.status == 2)
        return Outcome(
            np.rint(answer.x[: self.items]).astype(np.int64),
            float(answer.fun),
            float(answer.fun if answer.mip_dual_bound is None else answer.mip_dual_bound),
            int(answer.mip_node_count or 0),
            answer.status == 0,
        )


def program(
    costs: FloatArray,
    copies: IntArray,
    groups: Sequence[Bounds],
    budgets: Sequence[int | None],
    conflicts: Conflicts,
    total: int | None,
    at_most: int,
) -> Program:
    """Write down the choice of how often to take each item at the least cost.

    Args:
        costs: Cost of taking an item once.
        copies: How often each item may be taken.
        groups: Quotas over the items.
        budgets: For each quota by how many rows in all (shortfalls and excesses added) it may be
            missed; ``None`` makes that sum part of the cost, at 1 a row.
        conflicts: Pairs of items of which at most one is taken.
        total: How many to take, exactly; ``None`` for as many as possible up to ``at_most``: each
            missing one then costs 1.
        at_most: The most to take.
    """
    from scipy.sparse import coo_array

    size = len(costs)
    rows: list[IntArray] = []
    columns: list[IntArray] = []
    weights: list[FloatArray] = []
    sides: list[tuple[float, float]] = []
    slacks: list[tuple[float, float]] = []

    def constrain(items: IntArray, least: float, most: float, signs: Sequence[float] = ()) -> None:
        """Bound the sum of ``items``; ``signs`` are the weights of the last of them."""
        weight = np.ones(len(items))
        if signs:
            weight[-len(signs) :] = signs
        rows.append(np.full(len(items), len(sides), dtype=np.int64))
        columns.append(items)
        weights.append(weight)
        sides.append((least, most))

    def slack(cost: float, most: float) -> int:
        slacks.append((cost, most))
        return size + len(slacks) - 1

    everything = np.arange(size)
    if total is None:
        constrain(np.append(everything, slack(1.0, at_most)), at_most, at_most)
    else:
        constrain(everything, total, total)
    for group, budget in zip(groups, budgets, strict=True):
        order = np.argsort(group.codes, kind="stable")
        edges = np.searchsorted(group.codes[order], np.arange(len(group.minimum) + 1))
        missed: list[int] = []
        for value, (least, most) in enumerate(zip(group.minimum, group.maximum, strict=True)):
            members = order[edges[value] : edges[value + 1]]
            present = min(int(copies[members].sum()), at_most)
            if least <= 0 and most >= present:
                continue
            if budget == 0:
                constrain(members, least, most)
                continue
            price = 1.0 if budget is None else 0.0
            ceiling = float(max(least, at_most) if budget is None else budget)
            under, over = slack(price, ceiling), slack(price, ceiling)
            missed += [under, over]
            constrain(np.append(members, [under, over]), least, most, [1.0, -1.0])
        if budget and missed:
            constrain(np.asarray(missed), 0, budget)
    for clique in conflicts.cliques():
        constrain(np.asarray(clique), 0, 1)

    extra = np.asarray(slacks, dtype=np.float64).reshape(-1, 2)
    matrix = coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(sides), size + len(extra)),
    )
    low, high = np.asarray(sides, dtype=np.float64).T
    return Program(
        np.append(costs, extra[:, 0]),
        matrix.tocsc(),
        low,
        high,
        np.append(copies, extra[:, 1]).astype(np.float64),
        size,
    )
