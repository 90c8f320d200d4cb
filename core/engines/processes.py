"""The engine that does the work in a pool of processes on this machine.

The pools of ``concurrent.futures``, joblib and ``multiprocessing`` break as a whole when one worker
is killed, or wait for it forever, and say neither which task it had nor how far the others are. So
the processes and pipes here are those of ``multiprocessing``, one pipe a worker: whose end is
closed has died, and what it held is known.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Lock

from .cores import SHARED_BY
from .heard import Heard
from .turn import AHEAD, Turn, alone
from .work import Chunk, Result, Tell, Work, WorkerCountError, unheard
from .worker import (
    CHUNK,
    DAMAGE,
    ERROR,
    GRACE,
    LINE,
    NOTE,
    RESULT,
    WORK,
    threads_environment,
    work_until_ended,
)

log = logging.getLogger(__name__)


@dataclass
class _Worker:
    """A process, and the chunks that it has."""

    process: BaseProcess
    pipe: Connection
    number: int
    """Of all that this engine has started."""
    place: int
    """Below the number of workers; who replaces a dead one takes its place."""
    description: bytes = b""
    chunks: deque[int] = field(default_factory=deque)


class Processes:
    """Works in other processes; see :class:`.work.Engine`.

    Workers are started (not forked, which is not safe with torch) when there is work for them, and
    stay for the next call, with what they have opened, until the engine is closed. They end with
    this process, however it ends.

    Args:
        workers: How many processes.
        threads: How many threads a library takes in each.
        devices: Names as ``CUDA_VISIBLE_DEVICES`` has them: each worker sees one, in turn.
    """

    shares = True
    parts = False
    remote = False

    def __init__(self, workers: int, *, threads: int = 1, devices: Sequence[str] = ()) -> None:
        if workers < 1:
            raise WorkerCountError(workers)
        self._count, self._threads, self._devices = workers, threads, tuple(devices)
        self._workers: list[_Worker] = []
        self._numbers = itertools.count()
        self._heard = Heard()
        self._description = b""
        self._lock = Lock()

    @property
    def workers(self) -> int:
        """How many processes."""
        return self._count

    def map(
        self, work: Work[Chunk, Result], chunks: Iterable[Chunk], *, tell: Tell | None = None
    ) -> Generator[Result, None, None]:
        """Make a result of each chunk; see :meth:`.work.Engine.map`."""
        with alone(self._lock):
            self._description = pickle.dumps(work)
            self._heard.begin(self._description)
            turn = Turn(chunks, self._count)
            try:
                listen = partial(self._listen, tell=tell or unheard)
                yield from turn.results(self._deal, listen)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """End the workers; what they are at is lost."""
        for worker in self._workers:
            worker.pipe.close()  # which they notice
        for worker in self._workers:
            worker.process.join(2 * GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers.clear()

    def _deal(self, turn: Turn) -> bool:
        """Give chunks to workers that have few; return whether results are still to come."""
        while turn.waiting or turn.take():
            worker = self._idlest()
            if worker is None:
                break
            self._send(worker, turn, turn.waiting.popleft())
        return turn.goes_on

    def _idlest(self) -> _Worker | None:
        """Return the worker that gets the next chunk; ``None`` when all have enough."""
        least = min(self._workers, key=lambda worker: len(worker.chunks), default=None)
        if least is not None and not least.chunks:
            return least
        if len(self._workers) < self._count:
            return self._start()
        return least if least is not None and len(least.chunks) < AHEAD else None

    def _send(self, worker: _Worker, turn: Turn, number: int) -> None:
        worker.chunks.append(number)
        try:
            if worker.description != self._description:
                worker.pipe.send((WORK, self._description))
                worker.description = self._description
            worker.pipe.send((CHUNK, turn.flying[number]))
        except OSError:
            pass  # it has died, which is heard of next

    def _start(self) -> _Worker:
        environment = threads_environment(self._threads) | {SHARED_BY: str(self._count)}
        taken = {worker.place for worker in self._workers}
        place = next(place for place in itertools.count() if place not in taken)
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[place % len(self._devices)]
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        ours = __name__.partition(".engines")[0]
        levels = {name: logging.getLogger(name).level for name in ("", ours)}
        process = context.Process(
            target=work_until_ended,
            args=(there, environment, levels),
            daemon=True,
        )
        process.start()
        there.close()
        worker = _Worker(process, here, next(self._numbers), place)
        self._workers.append(worker)
        log.debug("Worker %d is process %s.", worker.number, process.pid)
        return worker

    def _listen(self, turn: Turn, tell: Tell) -> None:
        """Wait for workers to say something, or to die."""
        ready = connections.wait([worker.pipe for worker in self._workers])
        for worker in [w for w in self._workers if w.pipe in ready]:
            try:
                kind, what = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301
            except (EOFError, OSError, pickle.UnpicklingError):
                self._bury(worker, turn)
                continue
            if kind == NOTE:
                tell(what)
            elif kind == LINE:
                self._heard.line(worker.number, what)
            elif kind == DAMAGE:
                self._heard.damage(worker.number, next(iter(worker.chunks), None), what)
            elif kind in (RESULT, ERROR):
                number = worker.chunks.popleft()
                self._heard.finished(number)
                turn.finish(number, what)

    def _bury(self, worker: _Worker, turn: Turn) -> None:
        """Take a dead worker's chunks back; the one it was at counts as tried."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        how = _how_it_ended(worker.process.exitcode)
        worker.process.close()
        if not worker.chunks:
            log.warning("An idle worker process ended (%s); another takes its place.", how)
            return
        turn.lose(worker.chunks, how)
        log.warning(
            "A worker process ended in the middle of its work (%s); another does that part again.",
            how,
        )


def _how_it_ended(code: int | None) -> str:
    """Say what an exit code means: a signal's number where it is negative."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
