"""Where the next wave goes: one linear program over what is there and what could be made.

The images that are there enter with their quality. A scenario of which ``n`` more images are made
is expected to give ``usable * n`` more candidates, spread over quality as a normal distribution in
:data:`TIERS` of equal size, and over measured values as before. The program chooses the numbers
``n``, at most a wave in all, and from both kinds of candidates the selection of the greatest value
under the quotas, where each image that is missing costs more than any quality gains. What it is
worth more than without a wave is the gain that the wave promises.

This is the fluid (certainty-equivalent) relaxation of the stochastic program, in which random
numbers are replaced by their expectations; its value is an upper bound on what any policy can
expect, and it is near where the numbers are large (Gallego and van Ryzin, *A multiproduct dynamic
pricing problem and its applications to network yield management*, Operations Research 45, 1997).
Diminishing returns, the best of several, and quotas that hinder each other are in the program
itself; nothing is weighted by hand but the price of a missing image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..selection.conflicts import Conflicts, IntArray
from ..selection.reduction import FloatArray
from .yields import Yield

TIERS = (-1.2711, -0.3247, 0.3247, 1.2711)
"""Means of the four quarters of a standard normal distribution."""
_MISSING = 10.0
"""A missing image costs so many ranges of the quality, for the least important quota."""

EVEN = 16
"""More than a wave over this goes to one scenario only where that is worth something: estimates are
of few images, and what they hold equal is not equal."""
_UNEVEN = 5e-4
"""What an image beyond that, or beyond its seed's share, must be worth more in units of quality."""


@dataclass(frozen=True, eq=False)
class Limits:
    """A quota over what is there and what could be made.

    Attributes:
        minimum: The fewest of each value.
        maximum: The most of each value.
        there: The value that each image there counts for, -1 for none.
        scenarios: The value that each scenario's images count for; None when not the scenario
            decides.
        seeds: The value that each seed's images count for; None when not the seed decides.
        measured: Where both are None: the position of this quota in what was measured.
    """

    minimum: IntArray
    maximum: IntArray
    there: IntArray
    scenarios: IntArray | None = None
    seeds: IntArray | None = None
    measured: int = -1


@dataclass(frozen=True, eq=False)
class Allocation:
    """Where a wave goes and what it promises.

    Attributes:
        counts: Images for each scenario and seed, shape ``(scenarios, seeds)``, fractions; one
            column for all seeds where no quota tells these apart.
        gain: By how much the value of the selection rises, what it no longer lacks included.
    """

    counts: FloatArray
    gain: float


@dataclass
class _Rows:
    """Constraints as they are written down: ``low <= weights . variables <= high``."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: Sequence[tuple[int, float]], low: float, high: float) -> None:
        for column, weight in terms:
            self.rows.append(len(self.low))
            self.columns.append(column)
            self.weights.append(weight)
        self.low.append(low)
        self.high.append(high)


def allocate(
    values: FloatArray,
    limits: Sequence[Limits],
    pairs: npt.ArrayLike | None,
    total: int,
    expected: Sequence[Yield],
    room: IntArray,
    wave: int,
    keep: npt.ArrayLike = (),
) -> Allocation:
    """Decide how many images of each scenario and seed come next.

    Args:
        values: What each image that is there is worth.
        limits: The quotas, the most important first.
        pairs: Those of them of which at most one can be chosen, shape ``(m, 2)``.
        total: How many are chosen.
        expected: Of each scenario, what its next images are worth.
        room: The most images that may still be made of each scenario and seed, shape
            ``(scenarios, seeds)``.
        wave: How many images the wave has at most.
        keep: Those that are chosen in any case.
    """
    without = _solve(values, limits, pairs, total, expected, room, 0, keep)
    with_wave = _solve(values, limits, pairs, total, expected, room, wave, keep)
    return Allocation(with_wave[0], with_wave[1] - without[1])


def _solve(
    values: FloatArray,
    limits: Sequence[Limits],
    pairs: npt.ArrayLike | None,
    total: int,
    expected: Sequence[Yield],
    room: IntArray,
    wave: int,
    keep: npt.ArrayLike,
) -> tuple[FloatArray, float]:
    """Return the numbers of images and the value of the program."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    by_seed = any(limit.seeds is not None for limit in limits)
    room = room if by_seed else room.sum(axis=1, keepdims=True)
    scenarios, seeds = room.shape
    worth: list[float] = [float(value) for value in values]
    lower = np.zeros(len(values))
    lower[np.asarray(keep, dtype=np.int64)] = 1.0
    upper: list[float] = [1.0] * len(values)

    def variables(count: int, value: float, most: float) -> range:
        start = len(worth)
        worth.extend([value] * count)
        upper.extend([most] * count)
        return range(start, start + count)

    rows = _Rows()
    made = np.array(
        [[variables(1, 0.0, float(most))[0] for most in line] for line in room], dtype=np.int64
    ).reshape(scenarios, seeds)
    rows.add([(int(column), 1.0) for column in made.ravel()], 0.0, float(wave))
    for line in made:
        beyond = variables(1, -_UNEVEN, float(wave))[0]
        terms = [*((int(column), 1.0) for column in line), (beyond, -1.0)]
        rows.add(terms, -np.inf, max(2.0, wave / EVEN))
    for line in made.T if seeds > 1 else ():
        beyond = variables(1, -_UNEVEN, float(wave))[0]
        terms = [*((int(column), 1.0) for column in line), (beyond, -1.0)]
        rows.add(terms, -np.inf, float(-(-wave // seeds)))
    new: list[list[tuple[int, Any]]] = []
    for scenario, one in enumerate(expected):
        own: list[tuple[int, Any]] = []
        for tier in TIERS:
            for value, share in one.shares:
                column = variables(1, one.quality + tier * one.deviation, float(total))[0]
                part = -one.usable * share / len(TIERS)
                rows.add([(column, 1.0), *((int(n), part) for n in made[scenario])], -np.inf, 0.0)
                own.append((column, value))
        new.append(own)
    of_seed: list[list[int]] = [[] for _ in range(seeds)]
    for scenario, one in enumerate(expected) if by_seed else ():
        # Which seeds the chosen ones are of: together as many, of each what it can give.
        chosen = list(variables(seeds, 0.0, float(total)))
        rows.add([*((c, 1.0) for c in chosen), *((c, -1.0) for c, _ in new[scenario])], 0.0, 0.0)
        for seed, column in enumerate(chosen):
            rows.add([(column, 1.0), (int(made[scenario, seed]), -one.usable)], -np.inf, 0.0)
            of_seed[seed].append(column)

    every = [*range(len(values)), *(column for own in new for column, _ in own)]
    heights = [worth[column] for column in every] or [0.0]
    price = _MISSING * max(max(heights) - min(heights), 1e-3)
    short = variables(1, -price * 2.0 ** (len(limits) + 1), float(total))[0]
    rows.add([*((column, 1.0) for column in every), (short, 1.0)], float(total), float(total))
    for rank, limit in enumerate(limits):
        cost = -price * 2.0 ** (len(limits) - 1 - rank)
        members: list[list[int]] = [[] for _ in limit.minimum]
        for row, code in enumerate(limit.there.tolist()):
            if code >= 0:
                members[code].append(row)
        for scenario, own in enumerate(new):
            for column, value in own if limit.seeds is None else ():
                code = (
                    int(limit.scenarios[scenario])
                    if limit.scenarios is not None
                    else -1 if value is None else int(value[limit.measured])
                )  # fmt: skip
                if code >= 0:
                    members[code].append(column)
        for seed, own_columns in enumerate(of_seed) if limit.seeds is not None else ():
            if limit.seeds is not None and (code := int(limit.seeds[seed])) >= 0:
                members[code] += own_columns
        for own_members, least, most in zip(members, limit.minimum, limit.maximum, strict=True):
            if least <= 0 and most >= total:
                continue
            under, over = variables(2, cost, float(max(total, least)))
            terms = [*((column, 1.0) for column in own_members), (under, 1.0), (over, -1.0)]
            rows.add(terms, float(least), float(most))
    for clique in Conflicts.of(pairs, len(values)).cliques():
        rows.add([(row, 1.0) for row in clique], 0.0, 1.0)

    matrix = coo_array(
        (rows.weights, (rows.rows, rows.columns)), shape=(len(rows.low), len(worth))
    ).tocsr()
    low, high = np.asarray(rows.low), np.asarray(rows.high)
    equal = low == high
    above, below = ~equal & np.isfinite(high), ~equal & np.isfinite(low)
    from scipy.sparse import vstack

    answer = linprog(
        -np.asarray(worth),
        A_ub=vstack([matrix[above], -matrix[below]]),
        b_ub=np.append(high[above], -low[below]),
        A_eq=matrix[equal],
        b_eq=low[equal],
        bounds=np.column_stack([np.append(lower, np.zeros(len(worth) - len(values))), upper]),
        method="highs",
    )
    if answer.status != 0:  # keeps that conflict; the selection itself says so
        return np.zeros((scenarios, seeds)), 0.0
    return np.asarray(answer.x)[made], -float(answer.fun)
