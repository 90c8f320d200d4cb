"""Courses of the validation loss over optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import polars as pl


def smoothed(course: Sequence[Sequence[Any]]) -> list[tuple[int, float]]:
    """Return a course of (step, loss) with each loss the median of three neighbours.

    The loss before training, at step 0, stays as it is and smooths nothing else.
    """
    before = [(int(s), float(v)) for s, v in course if int(s) == 0]
    after = [(int(s), float(v)) for s, v in course if int(s) > 0]
    losses = [loss for _, loss in after]
    return before + [
        (step, median(losses[max(0, i - 1) : i + 2])) for i, (step, _) in enumerate(after)
    ]


def steps_to(course: Sequence[Sequence[Any]], level: float) -> int | None:
    """Return the first step at which the smoothed loss is at a level or below it."""
    return next((step for step, loss in smoothed(course) if loss <= level), None)


def steps_at(history: pl.DataFrame, epoch: int) -> int:
    """Return how many optimizer steps were done at the end of an epoch."""
    return int(history.filter(pl.col("epoch") == epoch)["step"][0])
