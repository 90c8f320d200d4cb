"""How many processors there are for this process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SHARED_BY = "CURATOR_SHARED_BY"
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


def memory() -> int | None:
    """Return this machine's memory in bytes, or what its container gets; ``None`` if unknown."""
    found: list[int] = []
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if not found:
        with suppress(ImportError):  # peft brings it
            import psutil

            found.append(int(psutil.virtual_memory().total))
    limit = Path("/sys/fs/cgroup/memory.max")
    with suppress(OSError, ValueError):  # or "max"
        found.append(int(limit.read_text(encoding="ascii")))
    return min(found, default=None)
