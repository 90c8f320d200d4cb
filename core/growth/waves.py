"""Images in waves: after each, what is there is measured and selected from, exactly; then the next.

It ends when the selection lacks nothing and another wave would raise the mean quality of the chosen
by less than what was asked for; or when the budget is spent; or when nothing more can help.

The waves are a function of the plan, the model, the goal and what was there before: the same
project makes the same images, killed in between or not. Whatever the batch size: images are the
same up to rounding in their last bits, and estimates are rounded so that these decide nothing,
save where a measurement lies on a threshold. Clusters are found anew after each wave, of all images
there are; a quota on them is met by what they are then. Last, all images are clustered once more
and selected from, as without waves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..imageset import ImageSet
from ..plan import Plan, Request
from ..selection import select
from ..selection.balance import NoCandidatesError
from ..selection.decisions import Decisions, placed
from ..selection.quotas import Quota
from ..selection.resolve import resolve
from .allocation import Allocation, Limits, allocate
from .dealing import Cell, cells_of, deal, first_look, in_plan_order, whole_numbers
from .ledger import (
    FIRST_LOOK,
    QUALITY,
    QUOTAS,
    Asked,
    found_there,
    read_ledger,
    write_ledger,
)
from .yields import Yield, yields

if TYPE_CHECKING:
    from ..selection.conflicts import IntArray
    from ..selection.result import Selection

log = logging.getLogger(__name__)

Make = Callable[[Sequence[Request], Callable[[Request], Mapping[str, Any]]], ImageSet]
"""Makes the images of requests that are not there yet, each with a note in its record."""
Look = Callable[[ImageSet], "tuple[ImageSet, IntArray]"]
"""Measures and clusters images; returns them with pairs of near-duplicates."""

_PLANNED = ("subject", "kind", "scenario", "category", "scenario_name")
"""Columns that the scenario of an image decides."""


@dataclass(frozen=True)
class Goal:
    """When there are enough images.

    Attributes:
        total: How many are to be chosen.
        quotas: How many of which values.
        wave: Images of a wave.
        gain: Least rise of the mean quality of the chosen that another wave is worth.
        budget: The most images in all.
        most: The highest take; any if None.
        decisions: What a person has decided about single images.
    """

    total: int
    quotas: Sequence[Quota]
    wave: int
    gain: float
    budget: int
    most: int | None = None
    decisions: Decisions | None = None


def wave_of(total: int) -> int:
    """Return how many images a wave has where nothing else is said.

    Two thirds of those to be chosen, in eights, so that batches are full: smaller waves learn more
    often, and larger ones know more of each scenario before they go on. Of 16 to 64 for the demo's
    70, 48 did best.
    """
    return 8 * -(-2 * total // 24)


@dataclass(frozen=True)
class Standing:
    """How things stand after a wave.

    Attributes:
        wave: Its number.
        images: How many there are.
        chosen: How many of them the selection has.
        met: Whether it lacks nothing.
        quality: The mean quality of the chosen; 0 where there are none.
        promised: By how much another wave is expected to raise it.
    """

    wave: int
    images: int
    chosen: int
    met: bool
    quality: float
    promised: float


@dataclass(frozen=True)
class Grown:
    """What the waves have made.

    Attributes:
        images: Every image that was asked for, in the plan's order, with the columns ``wave`` and
            ``wave_aim``.
        steps: How things stood, after each wave of this run.
        ended: Why it ended: a sentence.
    """

    images: ImageSet
    steps: tuple[Standing, ...]
    ended: str

    @property
    def met(self) -> bool:
        """Whether the selection lacks nothing."""
        return self.steps[-1].met

    @property
    def waves(self) -> int:
        """How many waves there were, those of earlier runs included."""
        return self.steps[-1].wave

    def sentence(self) -> str:
        """Say how it went."""
        waves = "1 wave" if self.waves == 1 else f"{self.waves} waves"
        return f"{len(self.images)} images in {waves}: {self.ended}"


def grow(
    plan: Plan,
    goal: Goal,
    make: Make,
    look: Look,
    ledger: Path,
    *,
    settings: Mapping[str, Any],
    folder: Path,
) -> Grown:
    """Make images in waves until the goal is reached.

    What lies in ``folder`` of this plan and model counts, so that a set whose cells are short, or
    of which more is wanted now, is topped up: its images stay as they are.

    Args:
        plan: Subjects, seeds and scenarios to choose from. Its takes do not limit the waves.
        goal: When there are enough.
        make: Makes images.
        look: Measures them.
        ledger: File that the waves are noted in.
        settings: Of the back end.
        folder: Where the images go.
    """
    cells = cells_of(plan)
    asked = read_ledger(ledger, plan, settings)
    asked += found_there(folder, plan, settings, asked)
    if not asked:
        counts = first_look(cells, goal.wave, goal.budget)
        requests = deal(plan, counts, (), most=goal.most)
        asked = [Asked(request, 1, FIRST_LOOK) for request in requests]
    steps: list[Standing] = []
    while True:
        write_ledger(ledger, asked, settings)
        notes = {one.request: one.note() for one in asked}
        requests = in_plan_order(plan, notes)
        images = _with_waves(make(requests, notes.__getitem__), asked)
        looked, pairs = look(images)
        chosen = _selection(looked, pairs, goal)
        number = max(one.wave for one in asked)
        room = max(0, min(goal.wave, goal.budget - len(asked)))
        step = _next(plan, cells, goal, looked, pairs, chosen, requests, room)
        stands = _standing(number, len(asked), chosen, step, goal)
        steps.append(stands)
        log.info(
            "wave %d: %d images, %d of %d chosen, %s lacking, mean quality %.4f; another promises "
            "%+.4f",
            number, len(asked), stands.chosen, goal.total, "nothing" if stands.met else "some",
            stands.quality, stands.promised,
        )  # fmt: skip
        ended = _ended(stands, step, room, goal)
        if ended is not None:
            return Grown(images, tuple(steps), ended)
        asked += [
            Asked(one.request, number + 1, one.aim, one.usable, one.quality) for one in step.asked
        ]


@dataclass(frozen=True)
class _Step:
    """The next wave, as it would be."""

    asked: Sequence[Asked]
    gain: float


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
            f"nothing is lacking, and {room} more are expected to raise the mean quality of the "
            f"chosen ({stands.quality:.4f}) by {max(stands.promised, 0.0):.4f}, less than "
            f"{goal.gain:g}."
        )
    lacking = (
        "nothing is lacking" if stands.met else "not everything that was asked for could be had"
    )
    if room <= 0:
        return f"the budget of {goal.budget} images is spent; {lacking}."
    if not step.asked or step.gain <= 1e-9:
        return f"no further image of this plan would help; {lacking}."
    return None


def _with_waves(images: ImageSet, asked: Sequence[Asked]) -> ImageSet:
    """Add the columns ``wave`` and ``wave_aim``."""
    noted = pl.DataFrame(
        {
            "path": [one.request.file_name for one in asked],
            "wave": pl.Series([one.wave for one in asked], dtype=pl.Int32),
            "wave_aim": [one.aim for one in asked],
        }
    )
    paths = images.table.select("path")
    added = paths.join(noted, on="path", how="left", maintain_order="left")
    return images.with_columns(added["wave"], added["wave_aim"])


def _selection(images: ImageSet, pairs: IntArray, goal: Goal) -> Selection | None:
    """Select exactly from what is there; None when there is nothing to select from."""
    try:
        return select(images, goal.total, goal.quotas, conflicts=pairs, decisions=goal.decisions)
    except NoCandidatesError:
        return None


def _next(
    plan: Plan,
    cells: Sequence[Cell],
    goal: Goal,
    images: ImageSet,
    pairs: IntArray,
    chosen: Selection | None,
    made: Sequence[Request],
    wave: int,
) -> _Step:
    """Return the next wave and what it promises."""
    table = images.table
    accepted = table["rejection"].is_null()
    keep: IntArray = np.zeros(0, dtype=np.int64)
    if goal.decisions is not None:
        decided = placed(goal.decisions, table)
        accepted = accepted & ~pl.Series(decided.veto)
        keep = decided.keep
    rows = np.flatnonzero(accepted.to_numpy())
    position = np.full(len(table), -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    kept = position[keep]
    quality = table["quality"].fill_null(0.0).to_numpy() if "quality" in table.columns else None
    worth = np.zeros(len(table)) if quality is None else quality
    between = position[np.asarray(pairs, dtype=np.int64).reshape(-1, 2)]
    between = between[(between >= 0).all(axis=1)]
    limits, measured = _limits(plan, cells, goal, table, rows)
    place = {cell: i for i, cell in enumerate(cells)}
    of = np.array(
        [place[key] for key in table.select("subject", "kind", "scenario").iter_rows()],
        dtype=np.int64,
    )
    fresh = np.zeros(len(table), dtype=bool)
    fresh[rows] = True
    for one, other in between.tolist():
        first, second = rows[one], rows[other]
        fresh[second if worth[first] >= worth[second] else first] = False
    expected = yields(of, fresh, worth, measured, len(cells))
    seeds = {seed: i for i, seed in enumerate(plan.seeds)}
    room = np.full((len(cells), len(seeds)), wave if goal.most is None else goal.most)
    if goal.most is not None:
        for request in made:
            cell = (request.subject, request.kind, request.scenario)
            room[place[cell], seeds[request.seed]] -= 1
    found = allocate(
        worth[rows],
        limits,
        between,
        goal.total,
        expected,
        np.maximum(room, 0),
        wave,
        kept[kept >= 0],
    )
    return _Step(_dealt(plan, cells, goal, found, expected, made, chosen, wave), found.gain)


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
        elif quota.column in _PLANNED:
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
    measured = any(column not in (*_PLANNED, "seed") for column, _ in short)
    of = dict(zip(cells, expected, strict=True))
    asked = []
    for request in deal(plan, counts, made, seeds=seeds, most=goal.most):
        cell = (request.subject, request.kind, request.scenario)
        named = {(name, str(getattr(request, name))) for name in (*_PLANNED, "seed")}
        aim = QUOTAS if everything or measured or named & short else QUALITY
        asked.append(Asked(request, 0, aim, of[cell].usable, of[cell].quality))
    return asked
