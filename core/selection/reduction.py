"""Drop the rows that no optimum needs, so that a million rows become a small exact model.

**Setting.** Rows are in one *class* when every quota counts them alike. A feasible selection
``S`` has at most ``total`` rows, and at most ``k`` of a class, ``k`` being the smallest of
``total`` and the maxima of the quota values that the class belongs to. Within a class rows are in
the order of falling value (ties: the earlier row first). Write ``N[d]`` for a row ``d`` together
with the rows it conflicts with.

**Rule.** Let ``P`` be rows of a class ``C`` whose sets ``N[d]`` are pairwise disjoint. A row
``i`` of ``C`` that comes after all of ``P`` is not needed when

1. every ``N[d]`` lies within ``C`` and ``|P| >= k`` (a row without conflicts always qualifies), or
2. ``|P| >= total``.

**Proof.** Let ``S`` be feasible and contain ``i``. A row ``d`` of ``P`` could take the place of
``i`` unless some ``s`` in ``S`` other than ``i`` lies in ``N[d]``. The sets being disjoint, each
``s`` rules out at most one ``d``. In case 1 only rows of ``C`` can do so, and ``S`` has at most
``k - 1`` of them beside ``i``; in case 2 there are at most ``total - 1``. So some ``d`` remains,
and ``S`` with ``d`` for ``i`` is conflict-free, counts the same in every quota, is worth at least
as much, and the sum of the positions in the order of its classes is smaller. That sum cannot fall
for ever: from any optimum, finitely many exchanges lead to an optimum without rows that the rule
drops. All of them may be dropped at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .conflicts import Conflicts, IntArray

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bounds:
    """One quota as numbers.

    Attributes:
        codes: Shape ``(rows,)``: which value each row counts for, ``-1`` for none.
        minimum: Shape ``(values,)``: the fewest rows wanted of each value.
        maximum: Shape ``(values,)``: the most rows wanted of each value.
    """

    codes: IntArray
    minimum: IntArray
    maximum: IntArray

    def of(self, items: IntArray) -> Bounds:
        """Return the same quota over some of the rows."""
        return Bounds(self.codes[items], self.minimum, self.maximum)

    def binding(self, total: int) -> Bounds:
        """Return the same quota without the values that can constrain no ``total`` rows.

        Rows of such a value get the code ``-1``; more rows then count alike.
        """
        counted = np.bincount(self.codes[self.codes >= 0], minlength=len(self.minimum))
        idle = (self.minimum <= 0) & (self.maximum >= np.minimum(counted, total))
        if not idle.any():
            return self
        codes = np.append(np.where(idle, -1, np.arange(len(idle))), -1)[self.codes]
        return Bounds(codes, self.minimum, self.maximum)


def classes(codes: Sequence[IntArray], rows: int) -> IntArray:
    """Number the classes of rows that agree in every column of ``codes``, densely from 0."""
    result = np.zeros(rows, dtype=np.int64)
    for column in codes:
        shifted = column.astype(np.int64) + 1
        width = int(shifted.max(initial=0)) + 1
        combined = result * width + shifted
        # Renumbering after each column keeps the product far below 2**63.
        result = _dense(combined)
    return result


def _dense(labels: IntArray) -> IntArray:
    top = int(labels.max(initial=0)) + 1
    if top <= 4 * len(labels) + 1024:
        used = np.zeros(top, dtype=bool)
        used[labels] = True
        return (np.cumsum(used) - 1)[labels]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def needed_rows(
    values: FloatArray,
    class_of: IntArray,
    limits: IntArray,
    conflicts: Conflicts,
    total: int,
) -> IntArray:
    """Return the rows that an optimum may need, ascending.

    Args:
        values: Worth of each row.
        class_of: Class of each row.
        limits: ``k`` of each class: how many of it any feasible selection may hold.
        conflicts: The conflict graph over all rows.
        total: How many rows a selection holds at most.
    """
    order = np.lexsort((-values, class_of))  # stable: equal values keep the row order
    sorted_class = class_of[order]
    limit = np.minimum(limits, total)[sorted_class]
    free = (conflicts.degrees == 0)[order]

    starts = np.flatnonzero(np.diff(sorted_class, prepend=-1))
    before = np.cumsum(free) - free
    lengths = np.diff(np.append(starts, len(order)))
    before -= np.repeat(before[starts], lengths)
    keep = before < limit

    kept = order[keep]
    if free[keep].all():
        return np.sort(kept)
    return np.sort(_walk(kept, class_of, limits, conflicts, total))


def _walk(
    ordered: IntArray, class_of: IntArray, limits: IntArray, conflicts: Conflicts, total: int
) -> IntArray:
    """Apply both cases of the rule row by row; ``ordered`` is sorted by class, then value."""
    kept = []
    current, inside, anywhere = -1, 0, 0
    limit = 0
    marked_inside: set[int] = set()
    marked_anywhere: set[int] = set()
    laden = (conflicts.degrees > 0)[ordered].tolist()
    for row, label, conflicting in zip(
        ordered.tolist(), class_of[ordered].tolist(), laden, strict=True
    ):
        if label != current:
            current, inside, anywhere = label, 0, 0
            limit = min(int(limits[label]), total)
            marked_inside.clear()
            marked_anywhere.clear()
        if inside >= limit or anywhere >= total:
            continue
        kept.append(row)
        if not conflicting:
            inside += 1
            anywhere += 1
            continue
        near = conflicts.around(row)
        closed = {row, *near.tolist()}
        if (class_of[near] == label).all() and closed.isdisjoint(marked_inside):
            marked_inside |= closed
            inside += 1
        if closed.isdisjoint(marked_anywhere):
            marked_anywhere |= closed
            anywhere += 1
    return np.asarray(kept, dtype=np.int64)
