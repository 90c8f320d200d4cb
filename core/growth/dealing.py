"""From how many images of what to requests: which seed and which take each of them is.

Batches are sampled at their full size, and each request has its own row in them, which follows
from seed, number and take (:func:`..generation.backend.row_of`). Requests are therefore dealt so
that these sums are spread evenly modulo :data:`ROWS`, whatever the batch size is, which must not
decide what is made: batches of 1, 2, 4 and 8 are nearly full then, and little is sampled only to
fill them (3 % of the demo's rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..plan import Plan, Request
from ..selection.reduction import FloatArray

ROWS = 8

Cell = tuple[str, str, int]
"""A scenario of a subject: (subject, kind, number)."""


def cells_of(plan: Plan) -> list[Cell]:
    """Return every scenario of every subject that a plan has takes for, in its order."""
    return [
        (subject.name, kind, scenario.number)
        for subject in plan.subjects
        for kind, scenario in plan.kinds()
        if scenario.takes != 0
    ]


def whole_numbers(parts: FloatArray, total: int) -> list[int]:
    """Round so that the sum is ``total`` at most: the largest remainders, the earlier first."""
    cut = np.floor(np.round(parts, 6)).astype(int)
    left = min(total - int(cut.sum()), int(np.ceil(np.round(parts.sum(), 6))) - int(cut.sum()))
    order = np.argsort(-(np.round(parts, 6) - cut), kind="stable")
    for place in order[: max(0, left)]:
        cut[place] += 1
    return [int(number) for number in cut]


def first_look(cells: Sequence[Cell], wave: int, budget: int) -> dict[Cell, int]:
    """Return how many images of each scenario the first wave has: of all alike.

    Every scenario once, and as often as the wave has room for; where the budget is smaller than
    the number of scenarios, of some that are spread over all.
    """
    rounds = max(1, -(-wave // len(cells)))
    rounds = min(rounds, budget // len(cells))
    if rounds:
        return dict.fromkeys(cells, rounds)
    return dict.fromkeys((cells[len(cells) * i // budget] for i in range(budget)), 1)


def deal(
    plan: Plan,
    counts: Mapping[Cell, int],
    made: Iterable[Request],
    *,
    seeds: Mapping[int, int] | None = None,
    most: int | None = None,
) -> list[Request]:
    """Make so many requests of each scenario.

    Of a scenario the lowest take that is not made comes first, of seeds with the same one that
    which keeps the rows of the batches even. Where no seed's lowest does, a later take comes first,
    and the one that was passed over afterwards.

    Args:
        plan: Whose requests they are.
        counts: How many of each scenario.
        made: What there is already, which is not asked for again.
        seeds: How many of each seed are wanted; no matter which unless given.
        most: The highest take; any unless given.

    Returns:
        The requests, in the plan's order; fewer than asked for where ``most`` leaves no more.
    """
    order = {cell: place for place, cell in enumerate(cells_of(plan))}
    taken = {(r.subject, r.kind, r.scenario, r.seed, r.take) for r in made}
    load = [0] * ROWS
    spread = dict.fromkeys(plan.seeds, 0)
    wanted = dict(seeds or {})
    share = -(-sum(counts.values()) // ROWS)
    left = {cell: counts[cell] for cell in order if counts.get(cell)}
    found: list[tuple[int, int, int, Request]] = []
    while left:
        for cell in list(left):
            subject, kind, number = cell
            choices = []
            for place, seed in enumerate(plan.seeds):
                take = 0
                beyond = seeds is not None and wanted.get(seed, 0) <= 0
                for skipped in range(ROWS):
                    take += 1
                    while (*cell, seed, take) in taken:
                        take += 1
                    if most is not None and take > most:
                        break
                    row = (seed + number + take) % ROWS
                    full = load[row] >= share
                    key = (full, beyond, skipped, load[row], take, spread[seed], place, row)
                    choices.append(key)
            if not choices:
                del left[cell]
                continue
            *_, take, _, place, row = min(choices)
            seed = plan.seeds[place]
            taken.add((*cell, seed, take))
            load[row] += 1
            spread[seed] += 1
            if seed in wanted:
                wanted[seed] -= 1
            request = plan.request(subject, seed, kind, number, take)
            found.append((place, order[cell], take, request))
            left[cell] -= 1
            if not left[cell]:
                del left[cell]
    return in_plan_order(plan, [entry[3] for entry in found])


def in_plan_order(plan: Plan, requests: Iterable[Request]) -> list[Request]:
    """Sort requests as the plan lists its own: subject, seed, originals first, number, take."""
    subjects = {subject.name: place for place, subject in enumerate(plan.subjects)}
    seeds = {seed: place for place, seed in enumerate(plan.seeds)}
    kinds = {(kind, scenario.number): place for place, (kind, scenario) in enumerate(plan.kinds())}
    return sorted(
        requests,
        key=lambda r: (
            subjects[r.subject], seeds[r.seed], kinds[r.kind, r.scenario], r.take,
        ),
    )  # fmt: skip
