"""What comes after what is there: the next wave, or why there is none.

A function of the plan, the goal, what was asked for and what was found in it, so that whoever makes
and measures the images (a project, or a graph of ComfyUI's) asks here how to go on.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..counts import how_many, worded
from ..imageset import ImageSet
from ..plan import Plan, Request
from ..selection.decisions import Decisions
from ..selection.quotas import Quota
from ..selection.resolve import resolve
from .allocation import Allocation, Limits, allocate
from .dealing import Cell, cells_of, deal, whole_numbers
from .ledger import QUALITY, QUOTAS, Asked
from .yields import Yield, yields

if TYPE_CHECKING:
    from ..selection.conflicts import IntArray
    from ..selection.result import Selection

_OF_SCENARIO = ("subject", "kind", "scenario", "category", "scenario_name")
"""Columns that the scenario of an image decides."""
PLANNED = (*_OF_SCENARIO, "seed")
"""Columns that are known of an image before it is made."""


def far_sight(total: int) -> int:
    """Return over how many images it is asked whether more would pay, at least.

    Two thirds of those to be chosen, in eights: a few images more never raise the mean by much.

    Args:
        total: How many are to be chosen.
    """
    return 8 * -(-2 * total // 24)


@dataclass(frozen=True)
class Goal:
    """When there are enough images.

    Attributes:
        total: How many are to be chosen.
        quotas: How many of which values.
        wave: Images of a wave.
        gain: Least rise of the mean quality of the chosen that another wave is worth, or as many
            images as :func:`far_sight` says where a wave has fewer.
        budget: The most images in all.
        most: The highest take; any if None.
        decisions: What a person has decided about single images.
        known: What the next image of each scenario is worth, in the order of
            :func:`.dealing.cells_of`; estimated from what is there unless given. It is for
            measuring what estimates cost.
    """

    total: int
    quotas: Sequence[Quota]
    wave: int
    gain: float
    budget: int
    most: int | None = None
    decisions: Decisions | None = None
    known: Sequence[Yield] | None = None


@dataclass(frozen=True)
class Standing:
    """How things stand after a wave.

    Attributes:
        wave: Its number.
        images: How many there are.
        chosen: How many of them the selection has.
        met: Whether it lacks nothing.
        quality: The mean quality of the chosen; 0 where there are none.
        promised: By how much another wave is expected to raise it, or as many images as
            :func:`far_sight` says.
    """

    wave: int
    images: int
    chosen: int
    met: bool
    quality: float
    promised: float

    def sentence(self, total: int) -> str:
        """Say how things stand.

        Args:
            total: How many are to be chosen.
        """
        lacking = "nothing" if self.met else "some"
        return (
            f"wave {self.wave}: {how_many(self.images, 'image')}, {self.chosen:,} of {total:,} "
            f"chosen, {lacking} lacking, mean quality {self.quality:.4f}; another promises "
            f"{self.promised:+.4f}"
        )


@dataclass(frozen=True)
class _Step:
    """The next wave, as it would be."""

    asked: Sequence[Asked]
    gain: float


@dataclass(frozen=True)
class Outlook:
    """How things stand, and how to go on.

    Attributes:
        standing: How they stand.
        following: The images of the next wave; none where it has ended.
        ended: Why there is none, a sentence; None where there is.
    """

    standing: Standing
    following: tuple[Asked, ...]
    ended: str | None

    def sentence(self) -> str:
        """Say how it went, in the end."""
        wave, images = self.standing.wave, self.standing.images
        return f"{how_many(images, 'image')} in {how_many(wave, 'wave')}: {self.ended}"


def outlook(
    plan: Plan,
    goal: Goal,
    images: ImageSet,
    chosen: Selection | None,
    asked: Sequence[Asked],
) -> Outlook:
    """Return how things stand after a wave, and the next one.

    Args:
        plan: Subjects, seeds and scenarios to choose from.
        goal: When there are enough.
        images: What was asked for, measured, as the selection was given it or as it marked it;
            others may be among them, and count as what is there.
        chosen: The selection from them; None where there was nothing to select from.
        asked: All that was asked for so far.
    """
    cells = cells_of(plan)
    number = max(one.wave for one in asked)
    left = max(0, goal.budget - len(asked))
    room, far = min(goal.wave, left), min(max(goal.wave, far_sight(goal.total)), left)
    made = [one.request for one in asked]
    step = _next(plan, cells, goal, images, chosen, made, room)
    sight = step if far == room else _next(plan, cells, goal, images, chosen, made, far)
    standing = _standing(number, len(asked), chosen, sight, goal)
    ended = _ended(standing, step, far, goal)
    if ended is not None:
        return Outlook(standing, (), ended)
    following = tuple(
        Asked(one.request, number + 1, one.aim, one.usable, one.quality) for one in step.asked
    )
    return Outlook(standing, following, None)


def _standing(
    number: int, images: int, chosen: Selection | None, step: _Step, goal: Goal
) -> Standing:
    count = 0 if chosen is None else len(chosen)
    mean = chosen.objective / count if chosen is not None and count else 0.0
    met = chosen is not None and chosen.met
    return Standing(number, images, count, met, mean, step.gain / goal.total)


def _ended(stands: Standing, step: _Step, room: int, goal: Goal) -> str | None:
    """Say why there is no further wave; None when there is."""
    if stands.met and stands.promised < goal.gain and room > 0:
        return (
            f"nothing is lacking, and {room:,} more {worded(room, 'is', 'are')} expected to raise "
            f"the mean quality of the chosen ({stands.quality:.4f}) by "
            f"{max(stands.promised, 0.0):.4f}, less than {goal.gain:g}."
        )
    lacking = (
        "nothing is lacking" if stands.met else "not everything that was asked for could be had"
    )
    if room <= 0:
        return f"the budget of {how_many(goal.budget, 'image')} is spent; {lacking}."
    if not step.asked or step.gain <= 1e-9:
        return f"no further image of this plan would help; {lacking}."
    return None


def _next(
    plan: Plan,
    cells: Sequence[Cell],
    goal: Goal,
    images: ImageSet,
    chosen: Selection | None,
    made: Sequence[Request],
    wave: int,
) -> _Step:
    """Return the next wave and what it promises."""
    table = images.table
    # The selection marks what it leaves out as rejected; its problem knows what it could take.
    rows, between, kept = _candidates(chosen)
    quality = table["quality"].fill_null(0.0).to_numpy() if "quality" in table.columns else None
    worth = np.zeros(len(table)) if quality is None else quality
    limits, measured = _limits(plan, cells, goal, table, rows)
    place = {cell: i for i, cell in enumerate(cells)}
    keys = table.select("subject", "kind", "scenario").iter_rows()
    of = np.array([place.get(key, -1) for key in keys], dtype=np.int64)
    fresh = np.zeros(len(table), dtype=bool)
    fresh[rows] = True
    for one, other in between.tolist():
        first, second = rows[one], rows[other]
        fresh[second if worth[first] >= worth[second] else first] = False
    # Of a scenario that has no takes, or is not of the plan, nothing more can be made.
    ours = np.flatnonzero(of >= 0)
    own = [measured[row] for row in ours.tolist()]
    expected = goal.known or yields(of[ours], fresh[ours], worth[ours], own, len(cells))
    seeds = {seed: i for i, seed in enumerate(plan.seeds)}
    room = np.full((len(cells), len(seeds)), wave if goal.most is None else goal.most)
    if goal.most is not None:
        for request in made:
            cell = (request.subject, request.kind, request.scenario)
            if cell in place:
                room[place[cell], seeds[request.seed]] -= 1
    found = allocate(
        worth[rows],
        limits,
        between,
        goal.total,
        expected,
        np.maximum(room, 0),
        wave,
        kept,
    )
    return _Step(_dealt(plan, cells, goal, found, expected, made, chosen, wave), found.gain)


def _candidates(chosen: Selection | None) -> tuple[IntArray, IntArray, IntArray]:
    """Return what was selected from: rows, pairs of near-duplicates, and those kept anyway.

    The last two are positions in the first.
    """
    none: IntArray = np.zeros(0, dtype=np.int64)
    if chosen is None or chosen.problem is None:
        return none, none.reshape(0, 2), none
    problem = chosen.problem
    rows = np.sort(problem.place)
    position = np.searchsorted(rows, problem.place)
    return rows, position[problem.pairs], np.sort(position[problem.keep])


def _limits(
    plan: Plan, cells: Sequence[Cell], goal: Goal, table: pl.DataFrame, rows: IntArray
) -> tuple[list[Limits], list[Hashable]]:
    """Write the quotas over what is there and what could be made.

    Returns:
        The quotas, and of each image what was measured of it that they count.
    """
    scenes = {
        (subject.name, kind, scene.number): scene
        for subject in plan.subjects
        for kind, scene in plan.kinds()
    }
    possible = [
        {
            "subject": cell[0],
            "kind": cell[1],
            "scenario": cell[2],
            "category": scenes[cell].category,
            "scenario_name": scenes[cell].name,
            "seed": seed,
        }
        for cell in cells
        for seed in plan.seeds
    ]
    schema = {name: table.schema[name] for name in possible[0]}
    whole = pl.concat([table[rows], pl.DataFrame(possible, schema=schema)], how="diagonal")
    every = pl.Series([True] * len(whole))
    limits: list[Limits] = []
    codes: list[IntArray] = []
    for quota in goal.quotas:
        bounds = resolve(quota, whole, every, goal.total).bounds
        there = bounds.codes[: len(rows)]
        grid = bounds.codes[len(rows) :].reshape(len(cells), len(plan.seeds))
        if quota.column == "seed":
            limits.append(Limits(bounds.minimum, bounds.maximum, there, seeds=grid[0]))
        elif quota.column in _OF_SCENARIO:
            limits.append(Limits(bounds.minimum, bounds.maximum, there, scenarios=grid[:, 0]))
        else:
            limits.append(Limits(bounds.minimum, bounds.maximum, there, measured=len(codes)))
            codes.append(there)
    measured: list[Hashable] = [None] * len(table)
    for place, row in enumerate(rows.tolist()):
        measured[row] = tuple(int(column[place]) for column in codes)
    return limits, measured


def _dealt(
    plan: Plan,
    cells: Sequence[Cell],
    goal: Goal,
    found: Allocation,
    expected: Sequence[Yield],
    made: Sequence[Request],
    chosen: Selection | None,
    wave: int,
) -> list[Asked]:
    """Turn an allocation into requests, each with the reason for it."""
    numbers = whole_numbers(found.counts.sum(axis=1), wave)
    counts = {cell: number for cell, number in zip(cells, numbers, strict=True) if number}
    seeds = None
    if found.counts.shape[1] == len(plan.seeds) and len(plan.seeds) > 1:
        parts = whole_numbers(found.counts.sum(axis=0), wave)
        seeds = dict(zip(plan.seeds, parts, strict=True))
    short = {
        (missed.column, str(missed.value))
        for missed in (chosen.relaxations if chosen is not None else ())
        if missed.selected < missed.minimum
    }
    everything = chosen is None or ("total", "None") in short
    measured = any(column not in PLANNED for column, _ in short)
    of = dict(zip(cells, expected, strict=True))
    asked = []
    for request in deal(plan, counts, made, seeds=seeds, most=goal.most):
        cell = (request.subject, request.kind, request.scenario)
        named = {(name, str(getattr(request, name))) for name in PLANNED}
        aim = QUOTAS if everything or measured or named & short else QUALITY
        asked.append(Asked(request, 0, aim, of[cell].usable, of[cell].quality))
    return asked
