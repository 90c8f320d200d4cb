"""The engine of the command line: here, and in processes where that pays."""

from __future__ import annotations

import logging
import operator
import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..counts import how_many
from ..errors import CuratorError
from .cores import memory, processors
from .here import Here
from .processes import Processes
from .work import Chunk, Needs, Result, Tell, Work

log = logging.getLogger(__name__)

VARIABLE = "CURATOR_WORKERS"
"""How many workers there are where nothing else is said."""
AUTO = "auto"
MOST = 16
"""More are not started unless they are asked for: each holds its own libraries and models."""
_START = 15.0
"""Seconds of a processor that must be gained for workers to be worth their start: each imports its
libraries (5 to 10 s) and loads its models."""
_LARGE = 2 * 2**30
"""Bytes of models from which nothing is tried here first, which would take them once more."""
_USABLE = 0.8
"""Part of the memory that workers may take together."""


class WorkersError(CuratorError):
    """A number of workers that is none."""


def workers_of(text: str | int | None, where: str) -> int | None:
    """Read a number of workers.

    Args:
        text: ``auto`` or nothing: as many as suit; else a number from 1.
        where: What says so, for the error.

    Raises:
        WorkersError: It is something else.
    """
    if text is None or text in (AUTO, ""):
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise WorkersError(f"{where} = {text}: give a number of processes from 1, or 'auto'.")
    return count


def places(needs: Needs) -> int:
    """Return how many workers suit this machine, whatever there is to do.

    On a processor: one a core, where so many fit into the memory together. On CUDA: one a device.
    """
    if needs.device.startswith("cuda"):
        return max(1, len(_devices()))
    if needs.device not in ("", "cpu"):
        return 1
    total = memory()
    fit = MOST if total is None else int(total * _USABLE // max(1, needs.memory))
    return max(1, min(processors(), fit, MOST))


def threads(needs: Needs) -> int:
    """Return with how many threads a worker runs its models.

    It follows from the machine and the models, not from how many workers there are, so that their
    number does not change the last bits of an image (they do depend on the threads).
    """
    try:
        cores = min(processors(), int(os.environ["OMP_NUM_THREADS"]))
    except (KeyError, ValueError):
        cores = processors()
    return max(1, cores // places(needs))


def is_own_program() -> bool:
    """Whether this process is our command line, whose file a worker may import.

    A worker imports the program that started it. A script that is not made for that would begin
    again in each worker.
    """
    program = sys.modules["__main__"]
    spec = getattr(program, "__spec__", None)
    if spec is not None:
        return spec.name == f"{__name__.partition('.')[0]}.__main__"
    return Path(getattr(program, "__file__", None) or "").stem.startswith("character-curator")


class Local:
    """Works here, or in a pool of processes; see :class:`.work.Engine`.

    Args:
        workers: How many. ``None`` takes what the environment's :data:`VARIABLE` says, and else
            decides, in our own program, from the cores, the devices, the memory for the models,
            and from how long the first chunks take here, once the models are loaded: starting
            workers costs seconds. In another's program nothing is started unless it is asked for.

    Raises:
        WorkersError: The environment's variable is no number.
    """

    shares = True
    parts = False
    remote = False

    def __init__(self, workers: int | None = None) -> None:
        if workers is None:
            workers = workers_of(os.environ.get(VARIABLE), VARIABLE)
        if workers is None and not is_own_program():
            workers = 1
            self.shares = False
        self._wanted = workers
        self._here = Here()
        self._pool: Processes | None = None

    @property
    def workers(self) -> int:
        """How many processes there may be."""
        return self._wanted or min(processors(), MOST)

    def map(
        self, work: Work[Chunk, Result], chunks: Iterable[Chunk], *, tell: Tell | None = None
    ) -> Generator[Result, None, None]:
        """Make a result of each chunk; see :meth:`.work.Engine.map`."""
        needs: Needs = getattr(work, "needs", Needs())
        count = operator.length_hint(chunks, 0)
        wanted = self._wanted or places(needs)
        left = iter(chunks)
        if wanted == 1 or (count == 1 and self._pool is None):
            log.debug("%s: in this process.", _named(work))
            yield from self._here.map(work, left, tell=tell)
            return
        if self._wanted is None and self._pool is None and needs.memory < _LARGE:
            pays = yield from self._tried(work, left, count, wanted, tell)
            if not pays:
                return
        self._here.close()
        log.debug("%s: in %s.", _named(work), how_many(wanted, "process"))
        with closing(self._pool_of(wanted, needs).map(work, left, tell=tell)) as results:
            yield from results

    def close(self) -> None:
        """End the workers."""
        self._here.close()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _tried(
        self, work: Work[Chunk, Result], left: Iterator[Chunk], count: int, wanted: int,
        tell: Tell | None,
    ) -> Generator[Result, None, bool]:  # fmt: skip
        """Work here until it is known whether workers pay; return whether they do."""
        spent, begun = 0.0, time.monotonic()
        for done, result in enumerate(self._here.map(work, left, tell=tell), 1):
            if done > 1:  # the first has loaded the models
                spent += time.monotonic() - begun
            yield result
            begun = time.monotonic()  # what the caller does with a result counts for nobody
            gain = spent / max(1, done - 1) * (count - done) * (1 - 1 / wanted)
            if gain > _START * wanted / processors():
                log.debug(
                    "%s: %s some %.0f s.",
                    _named(work),
                    how_many(wanted, "worker gains", "workers gain"),
                    gain,
                )
                return True
        log.debug("%s: in this process.", _named(work))
        return False

    def _pool_of(self, count: int, needs: Needs) -> Processes:
        devices = _devices() if needs.device.startswith("cuda") else ()
        if self._pool is None or self._pool.workers != count:
            if self._pool is not None:
                self._pool.close()
            own = max(1, processors() // count)
            self._pool = Processes(count, threads=own, devices=devices)
        return self._pool


def _devices() -> tuple[str, ...]:
    """Return the CUDA devices that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(named[:count] or map(str, range(count)))


def _named(work: Any) -> str:
    return type(work).__name__
