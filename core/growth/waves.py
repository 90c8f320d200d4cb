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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..analysis.pixels import require_readable
from ..counts import how_many
from ..imageset import ImageSet
from ..plan import Plan, Request
from ..selection import select
from ..selection.balance import NoCandidatesError
from .dealing import cells_of, deal, first_look, in_plan_order
from .ledger import FIRST_LOOK, Asked, found_there, read_ledger, write_ledger
from .next_wave import PLANNED, Goal, Standing, far_sight, outlook

if TYPE_CHECKING:
    from ..selection.conflicts import IntArray
    from ..selection.quotas import Quota
    from ..selection.result import Selection

log = logging.getLogger(__name__)

Make = Callable[[Sequence[Request], Callable[[Request], Mapping[str, Any]]], ImageSet]
"""Makes the images of requests that are not there yet, each with a note in its record."""
Look = Callable[[ImageSet], "tuple[ImageSet, IntArray]"]
"""Measures and clusters images; returns them with pairs of near-duplicates."""


def wave_of(total: int, quotas: Sequence[Quota]) -> int:
    """Return how many images a wave has where nothing else is said.

    Eight, a batch, where the plan alone decides what the quotas count: small waves learn more
    often, and the first look is shorter. Two thirds of those to be chosen, in eights, where
    something measured is counted (clusters, poses): what the images of a scenario are is then
    known from several of them only, and clusters are other ones after each wave.

    Args:
        total: How many are to be chosen.
        quotas: How many of which values.
    """
    return 8 if all(quota.column in PLANNED for quota in quotas) else far_sight(total)


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
        return (
            f"{how_many(len(self.images), 'image')} in {how_many(self.waves, 'wave')}: {self.ended}"
        )


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

    Raises:
        LostImagesError: Images have gone before they were measured.
    """
    asked = asked_so_far(plan, goal, ledger, settings, folder)
    steps: list[Standing] = []
    while True:
        write_ledger(ledger, asked, settings)
        notes = {one.request: one.note() for one in asked}
        requests = in_plan_order(plan, notes)
        images = with_waves(make(requests, notes.__getitem__), asked)
        looked, pairs = look(images)
        require_readable(looked)  # what comes next follows from all of them
        chosen = _selection(looked, pairs, goal)
        ahead = outlook(plan, goal, looked, chosen, asked)
        steps.append(ahead.standing)
        log.info("%s", ahead.standing.sentence(goal.total))
        if ahead.ended is not None:
            return Grown(images, tuple(steps), ahead.ended)
        asked += ahead.following


def asked_so_far(
    plan: Plan, goal: Goal, ledger: Path, settings: Mapping[str, Any], folder: Path
) -> list[Asked]:
    """Return what was asked for, by waves and before them; the first wave where nothing was.

    Args:
        plan: Subjects, seeds and scenarios to choose from.
        goal: Decides about the first wave.
        ledger: File that the waves are noted in; it may be absent.
        settings: Of the back end.
        folder: Where the images are.
    """
    asked = read_ledger(ledger, plan, settings)
    asked += found_there(folder, plan, settings, asked)
    if not asked:
        counts = first_look(cells_of(plan), goal.wave, goal.budget)
        requests = deal(plan, counts, (), most=goal.most)
        asked = [Asked(request, 1, FIRST_LOOK) for request in requests]
    return asked


def with_waves(images: ImageSet, asked: Sequence[Asked]) -> ImageSet:
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
