"""What it would cost to have an image in the selection that is not: exactly, where affordable.

**Price.** Of a candidate ``j`` that is not selected: the value of the best selection less the value
of the best one with ``j`` in it, under the same quotas, missed by no more than they are. Which
images leave for it, and which others enter, says what stands in its way.

**Method.** The linear relaxation gives a floor ``B`` and a price ``p`` an item (see
:mod:`.pricing`): a selection with ``j`` and ``k`` costs at least ``B + p_j + p_k``. Where a swap of
``j`` for one selected image costs no more than ``B + p_j``, that swap is the answer. Else the
integer program is solved with ``j`` forced in, on the items whose price lies below what it finds.

**One answer for many.** Let ``i`` and ``j`` count alike in every quota and conflict with the same
other rows, ``j`` worth no less, and ``S`` be best with ``i`` forced in, without ``j``. Then ``S``
with ``j`` for ``i`` is best with ``j``: a better one without ``i`` would, with ``i`` for ``j``, be
better than ``S``; and one that holds both is among those that ``S`` is the best of, and ``S`` with
``j`` is worth no less than ``S``.

Where the number of programs is used up, a price is a bound: it is at least the linear relaxation's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .conflicts import Conflicts, IntArray
from .integer_program import Program, SolverError, program
from .optimum import beside, promising, scale, solve
from .pricing import floor_and_prices
from .reduction import Bounds, FloatArray, classes
from .result import Selection

MAX_PROGRAMS = 800
"""Integer programs that are solved for prices, where the selection's own took one node."""

MAX_RELAXED = 60
"""Of images that no selection holds without missing a quota: how many are solved."""

MAX_CANDIDATES = 20_000
"""Selections from more candidates are not priced."""

_FIRST = 60
"""How many items beside the selected ones the first program of a price sees."""

_SLACK = 1e-4
"""In units of cost, 6e-9 of the range of the values: above the solver's tolerances."""


@dataclass(frozen=True)
class Price:
    """What forcing one image in would change.

    Attributes:
        cost: By how much the total value would fall; below 0, it would rise, at the price of
            quotas; infinite where no selection holds the image without missing a quota further
            and the best of those was not looked for. None where kept images exclude the image.
        exact: Whether that is proven; otherwise ``cost`` is a lower bound for selections that
            miss no quota further, if there is one with the image.
        leaves: Rows of the table that would leave the selection; empty with a bound.
        enters: Rows that would enter beside the image; empty with a bound.
        missed: The quotas (and ``total``) that would be missed by more than they are, and by how
            much more.
    """

    cost: float | None
    exact: bool = True
    leaves: tuple[int, ...] = ()
    enters: tuple[int, ...] = ()
    missed: tuple[tuple[str, int], ...] = ()


def prices(
    selection: Selection, *, programs: int = MAX_PROGRAMS, relaxed: int = MAX_RELAXED
) -> dict[int, Price]:
    """Return the price of each candidate that was not selected, by its row in the table.

    The same selection always gets the same prices: the work is limited by the number of programs,
    never by time. The cheapest come first.

    Args:
        selection: From :func:`.select`.
        programs: Integer programs to solve, less where the selection itself was hard.
        relaxed: Of images that no selection holds without missing a quota further.

    Returns:
        Empty for a selection that was stopped by a time limit, was made otherwise, or has more
        than :data:`MAX_CANDIDATES`.
    """
    problem = selection.problem
    if problem is None or not selection.optimal or len(problem.values) > MAX_CANDIDATES:
        return {}
    graph = Conflicts.of(problem.pairs, len(problem.values))
    groups = [item.bounds for item in problem.resolved]
    rest, lowered, beyond = beside(problem.keep, groups, graph)
    budgets = [
        missed - more for missed, more in zip(problem.solution.deviations, beyond, strict=True)
    ]
    chosen = np.isin(rest, problem.solution.rows)
    found: dict[int, Price] = {
        int(row): Price(None)
        for row in np.setdiff1d(np.arange(len(problem.values)), np.append(rest, problem.keep))
    }
    if chosen.any() and not chosen.all():
        inner = _Inner(problem.values[rest], lowered, graph.among(rest), chosen, budgets)
        limit = programs // max(1, problem.solution.nodes)
        names = [item.quota.column for item in problem.resolved]
        for row, price in inner.prices(limit, relaxed, names).items():
            found[int(rest[row])] = _renumbered(price, rest)
    elif not chosen.all():  # every place is kept
        found |= {int(row): Price(None) for row in rest}
    return {int(problem.place[row]): _renumbered(p, problem.place) for row, p in found.items()}


def _renumbered(price: Price, rows: IntArray) -> Price:
    leaves = tuple(int(rows[row]) for row in price.leaves)
    enters = tuple(int(rows[row]) for row in price.enters)
    return Price(price.cost, price.exact, leaves, enters, price.missed)


class _Inner:
    """The problem without kept rows: the best selection, and questions about others.

    Args:
        values: What each row is worth.
        groups: The quotas.
        graph: The conflicts.
        chosen: The best selection.
        budgets: By how many rows each quota is missed by it.
    """

    def __init__(
        self,
        values: FloatArray,
        groups: Sequence[Bounds],
        graph: Conflicts,
        chosen: np.ndarray,
        budgets: Sequence[int],
    ) -> None:
        self.values, self.groups, self.graph = values, groups, graph
        self.chosen, self.budgets = chosen, budgets
        self.total = int(chosen.sum())
        self.best = math.fsum(values[chosen])
        self.low, self.unit = scale(values)

    def prices(self, programs: int, relaxed: int, names: Sequence[str]) -> dict[int, Price]:
        """Return the price of each row that is not chosen."""
        others = np.flatnonzero(~self.chosen)
        known = [group.binding(self.total) for group in self.groups]
        full = program(
            -(self.values - self.low) / self.unit,
            np.ones(len(self.values), dtype=np.int64),
            known,
            self.budgets,
            self.graph,
            self.total,
            self.total,
        )
        start = np.union1d(promising(self.values, known, self.total), np.flatnonzero(self.chosen))
        linear = floor_and_prices(full, start)
        floor, price = linear or (-math.inf, np.zeros(len(self.values)))
        own = -(self.best - self.low * self.total) / self.unit
        least = np.maximum(0.0, (floor + price - own) * self.unit)
        swaps, swap_costs = self._swaps(others)
        found: dict[int, Price] = {}
        open_rows = []
        for row, leaving, cost in zip(others.tolist(), swaps.tolist(), swap_costs, strict=True):
            if cost <= least[row] + _SLACK * self.unit:
                found[row] = Price(max(0.0, float(cost)), leaves=(leaving,))
            else:
                open_rows.append(row)
        alike = self._alike()
        for members in sorted(
            _grouped(open_rows, alike), key=lambda rows: (least[rows].min(), rows[0])
        ):
            # From the least value up: an answer holds for the better ones that it does not take.
            left = sorted(members, key=lambda row: (self.values[row], row))
            while left:
                row = left[0]
                answer: frozenset[int] | None = None
                if programs > 0:
                    programs -= 1
                    answer = self._with(full, floor, price, row)
                    if answer is None and relaxed > 0:
                        relaxed -= 1
                        left = self._relaxed(row, left, names, found)
                        continue
                    if answer is None:
                        found |= {r: Price(math.inf, exact=False) for r in left}
                        break
                if answer is None:
                    found |= {r: Price(float(least[r]), exact=False) for r in left}
                    break
                own_set = answer - {row}
                for r in [r for r in left if r == row or r not in own_set]:
                    found[r] = self._told(own_set | {r}, r)
                left = [r for r in left if r in own_set and r != row]
        return found

    def _told(self, rows: frozenset[int] | set[int], row: int) -> Price:
        before = set(np.flatnonzero(self.chosen).tolist())
        cost = self.best - math.fsum(self.values[sorted(rows)])
        tiny = 1e-9 * max(1.0, abs(self.best))
        leaves, enters = sorted(before - rows), sorted(rows - before - {row})
        return Price(0.0 if abs(cost) < tiny else cost, True, tuple(leaves), tuple(enters))

    def _with(
        self, full: Program, floor: float, price: FloatArray, row: int
    ) -> frozenset[int] | None:
        """Return the best selection with a row in it, or None where there is none."""
        core = np.union1d(np.argsort(price, kind="stable")[:_FIRST], np.flatnonzero(self.chosen))
        core = np.union1d(core, [row])
        while True:
            outcome = full.restricted(core).solve(None, int(np.searchsorted(core, row)))
            if outcome.counts is None:
                if len(core) == full.items:
                    return None
                core = np.arange(full.items)
                continue
            admitted = np.flatnonzero(floor + price[row] + price <= outcome.cost + _SLACK)
            seen = np.union1d(core, admitted)
            if len(seen) == len(core):
                return frozenset(core[outcome.counts > 0].tolist())
            core = seen

    def _relaxed(
        self, row: int, left: list[int], names: Sequence[str], found: dict[int, Price]
    ) -> list[int]:
        """Price a row that no selection holds without missing a quota by more; return the others.

        A row of its kind misses as much: with one for the other, a selection counts the same.
        """
        try:
            other = solve(self.values, self.groups, self.graph.pairs, self.total, keep=[row])
        except SolverError:
            found |= {r: Price(math.inf, exact=False) for r in left}
            return []
        missed = [
            (name, more - less)
            for name, more, less in zip(names, other.deviations, self.budgets, strict=True)
            if more > less
        ]
        if len(other.rows) < self.total:
            missed.insert(0, ("total", self.total - len(other.rows)))
        rows = set(other.rows.tolist()) - {row}
        for r in [r for r in left if r == row or r not in rows]:
            told = self._told(rows | {r}, r)
            found[r] = Price(told.cost, True, told.leaves, told.enters, tuple(missed))
        return [r for r in left if r in rows and r != row]

    def _swaps(self, others: IntArray) -> tuple[IntArray, FloatArray]:
        """Return, for each row, the cheapest chosen one that it could replace, and at what cost."""
        inside = np.flatnonzero(self.chosen)
        allowed = np.ones((len(others), len(inside)), dtype=bool)
        for group, budget in zip(self.groups, self.budgets, strict=True):
            codes = group.codes
            got = np.bincount(codes[self.chosen & (codes >= 0)], minlength=len(group.minimum))

            def missed(number: IntArray, group: Bounds = group) -> IntArray:
                short = np.maximum(group.minimum - number, 0)
                return short + np.maximum(number - group.maximum, 0)

            now = missed(got)
            more = np.append(missed(got + 1) - now, 0)[codes[others]]
            less = np.append(missed(got - 1) - now, 0)[codes[inside]]
            same = codes[others][:, None] == codes[inside][None, :]
            change = np.where(same, 0, more[:, None] + less[None, :])
            allowed &= now.sum() + change <= budget
        place = np.full(len(self.values), -1)
        place[inside] = np.arange(len(inside))
        for k, row in enumerate(others.tolist()):
            near = place[self.graph.around(row)]
            near = near[near >= 0]
            if len(near):
                only = np.zeros(len(inside), dtype=bool)
                only[near] = len(near) == 1
                allowed[k] &= only
        worth = np.where(allowed, self.values[inside][None, :], np.inf)
        best = worth.argmin(axis=1)
        return inside[best], worth[np.arange(len(others)), best] - self.values[others]

    def _alike(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return a key a row: equal for rows that count alike and conflict with the same others.

        Such rows either conflict with each other or do not, so that both kinds have their keys.
        """
        class_of = classes([group.codes for group in self.groups], len(self.values)).tolist()
        near = [tuple(self.graph.around(row).tolist()) for row in range(len(class_of))]
        closed = [
            (label, tuple(sorted((row, *others))))
            for row, (label, others) in enumerate(zip(class_of, near, strict=True))
        ]
        shared = Counter(closed)
        return [
            key if shared[key] > 1 else (label, (-1, *others))
            for key, label, others in zip(closed, class_of, near, strict=True)
        ]


def _grouped(rows: Sequence[int], keys: Sequence[tuple[int, tuple[int, ...]]]) -> list[list[int]]:
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for row in rows:
        groups.setdefault(keys[row], []).append(row)
    return list(groups.values())
