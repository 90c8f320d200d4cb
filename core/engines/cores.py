"""How many processors there are for this process."""

from __future__ import annotations

import os

SHARED_BY = "CURATOR_WORKERS"
"""The variable that tells a worker how many like it share the machine."""


def processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def share() -> int:
    """Return how many processes do the same work on this machine: 1 but in a worker."""
    try:
        return max(1, int(os.environ.get(SHARED_BY, "1")))
    except ValueError:
        return 1


def own_processors() -> int:
    """Return this process's part of the processors, one at least."""
    return max(1, processors() // share())
