"""Course of the learning rate."""

from __future__ import annotations

import math

from ..settings import ScheduleName


def lr_factor(step: int, total: int, schedule: ScheduleName, warm_up: int = 0) -> float:
    """Return the factor on the peak learning rate for one optimizer step.

    Args:
        step: Steps taken so far, from 0.
        total: Steps of the whole run.
        schedule: ``constant``, or ``linear`` or ``cosine`` down to 0 at ``total``.
        warm_up: Steps of the linear rise; the first of them has the factor ``1 / warm_up``.

    Returns:
        A number from 0 to 1.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    if schedule == "constant":
        return 1.0
    share = min(1.0, (step - warm_up) / max(1, total - warm_up))
    return 1 - share if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
