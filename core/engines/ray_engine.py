"""The engine that does the work in actors of Ray, on this machine or on a cluster.

Plain actors, and a queue of chunks for each: what Ray offers above them lacks one thing each.
``ray.data``'s ``map_batches`` with an actor pool retries what a dead actor had without end or not
at all, so that an image that kills whoever reads it would never be named; it cuts and joins blocks
by their size in bytes, where here a chunk's make-up decides over last bits; and it says what it
does to the terminal. ``ray.util.ActorPool`` submits all that it is given, and keeps dead actors.
Ray's own restarts of actors do not tell anybody. What Ray does do is place actors on machines,
carry chunks and results, and notice that an actor has died.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

from ..counts import how_many
from ..errors import CuratorError
from .cores import processors
from .heard import Heard
from .ray_cluster import Cluster, ClusterError, free_and_total
from .ray_worker import PROGRAM, RayWorker, installed
from .turn import AHEAD, TRIES, Turn, WorkerLostError, alone
from .work import Chunk, Result, Tell, Work, WorkerCountError, unheard
from .worker import DAMAGE, ERROR, LINE, NOTE, RESULT, threads_environment

log = logging.getLogger(__name__)

_PATIENCE = 30.0
"""Seconds to wait for a worker before it is said that there is no place for one."""


class WorkersUnlikeError(CuratorError):
    """The workers of a cluster cannot do the work, or would do it in another way than here."""


@dataclass
class _Worker:
    """An actor, and the chunks that it has, with what comes of each."""

    actor: Any
    hello: Any
    name: str = ""
    chunks: deque[tuple[int, Any]] = field(default_factory=deque)

    @property
    def awaited(self) -> Any:
        """What is heard of this worker next; ``None`` where nothing is."""
        if not self.name:
            return self.hello
        return self.chunks[0][1] if self.chunks else None


class RayEngine:
    """Works in actors of Ray; see :class:`.work.Engine`.

    Actors are started when there is work for them, and stay for the next call, with what they have
    opened, until the engine is closed.

    Args:
        workers: How many actors; as many as there are places for unless given. Where there are
            places for fewer, those do all.
        address: Of a cluster; see :class:`.ray_cluster.Cluster`.
        threads: How many threads a library takes in each, and how many processors each takes of
            the cluster.
        gpus: How many graphics cards each takes of the cluster; a part of one is shared.
        parts: Whether workers write what they find as parts; see :class:`.work.Engine`.
    """

    shares = True
    remote = True

    def __init__(
        self,
        workers: int | None = None,
        *,
        address: str | None = None,
        threads: int = 1,
        gpus: float = 0,
        parts: bool = False,
    ) -> None:
        if workers is not None and workers < 1:
            raise WorkerCountError(workers)
        self._count, self._threads, self._gpus = workers, threads, gpus
        self.parts = parts
        self._cluster = Cluster(address)
        self._ray: Any = None
        self._workers: list[_Worker] = []
        self._description: Any = None
        """The pickled work, where all workers find it."""
        self._never_came = 0
        self._heard = Heard(once=logging.NOTSET)
        self._unlike: set[str] = set()
        self._lock = Lock()

    @property
    def workers(self) -> int:
        """How many actors. Unless that was said, the cluster is asked."""
        if self._count is None:
            total = self._opened().cluster_resources()
            places = [total.get("CPU", 0) / self._threads]
            places += [total.get("GPU", 0) / self._gpus] if self._gpus else []
            self._count = max(1, int(min(places)))
            log.info("%s a place", how_many(self._count, "worker has", "workers have"))
        return self._count

    def map(
        self, work: Work[Chunk, Result], chunks: Iterable[Chunk], *, tell: Tell | None = None
    ) -> Generator[Result, None, None]:
        """Make a result of each chunk; see :meth:`.work.Engine.map`."""
        with alone(self._lock):
            try:
                description = pickle.dumps(work)
                self._description = self._opened().put(description)
                self._heard.begin(description)
                turn = Turn(chunks, self.workers)
                listen = partial(self._listen, tell=tell or unheard)
                yield from turn.results(self._deal, listen)
            except BaseException:
                self._end_workers()
                raise

    def close(self) -> None:
        """End the workers, and Ray where it was started for them; what they are at is lost."""
        self._end_workers()
        self._ray = None
        self._cluster.close()

    def _end_workers(self) -> None:
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()

    def _opened(self) -> Any:
        """Return the module ``ray``, connected."""
        if self._ray is None:
            self._ray = self._cluster.open(
                self._threads * (self._count or max(1, processors() // self._threads))
            )
            cards = self._ray.cluster_resources().get("GPU", 0)
            if self._cluster.is_own and cards < self._gpus:
                raise ClusterError(
                    f"A worker is to take {self._gpus:g} graphics cards, and this machine has "
                    f"{cards:g} that Ray knows of. Ask for fewer (gpus = 0 for none)."
                )
            if cards and not self._gpus:
                log.warning(
                    "%s has %g graphics cards, and the workers take none of them: gpus = 1 gives "
                    "each worker one.", self._cluster, cards,
                )  # fmt: skip
        return self._ray

    def _deal(self, turn: Turn) -> bool:
        """Give chunks to workers that have few; return whether results are still to come."""
        while turn.take():
            pass
        while len(self._workers) < min(self.workers, len(turn.flying)):
            self._start()
        while turn.waiting and (worker := self._idlest()) is not None:
            self._send(worker, turn, turn.waiting.popleft())
        return turn.goes_on

    def _idlest(self) -> _Worker | None:
        """Return the worker that gets the next chunk; ``None`` when all have enough."""
        there = [worker for worker in self._workers if worker.name]
        least = min(there, key=lambda worker: len(worker.chunks), default=None)
        return least if least is not None and len(least.chunks) < AHEAD else None

    def _send(self, worker: _Worker, turn: Turn, number: int) -> None:
        told = worker.actor.work.remote(self._description, turn.flying[number])
        worker.chunks.append((number, told))

    def _start(self) -> None:
        """Ask for a worker, who is there when he has said so."""
        ours = __name__.partition(".engines")[0]
        levels = {name: logging.getLogger(name).level for name in ("", ours)}
        made = self._ray.remote(RayWorker).options(
            num_cpus=self._threads,
            num_gpus=self._gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": threads_environment(self._threads)},
        )
        actor = made.remote(levels, self._threads)
        self._workers.append(_Worker(actor, actor.hello.remote()))

    def _listen(self, turn: Turn, tell: Tell) -> None:
        """Wait for workers to say something, or to die."""
        began, told = time.monotonic(), False
        while True:
            awaited = {w.awaited: w for w in self._workers if w.awaited is not None}
            ready, _ = self._ray.wait([*awaited], num_returns=1, timeout=_PATIENCE)
            if ready:
                break
            nobody = not any(worker.name for worker in self._workers)
            if nobody and not told and time.monotonic() - began >= _PATIENCE:
                told = True
                log.warning(
                    "No worker has come yet: each takes %s and %g of the graphics cards of %s "
                    "(%s). Waiting.",
                    how_many(self._threads, "processor"), self._gpus, self._cluster,
                    free_and_total(self._ray),
                )  # fmt: skip
        # All that is there to be heard, not only the first of it.
        ready, _ = self._ray.wait([*awaited], num_returns=len(awaited), timeout=0)
        for one in ready:
            worker = awaited[one]
            if worker.name:
                self._hear(worker, turn, tell)
            else:
                self._greet(worker)

    def _hear(self, worker: _Worker, turn: Turn, tell: Tell) -> None:
        """Take in what a worker says of its chunk."""
        number, told = worker.chunks[0]
        try:
            said = self._ray.get(next(told))
        except self._losses() as error:
            self._bury(worker, turn, error)
            return
        for kind, data in said:
            what = pickle.loads(data)  # noqa: S301
            if kind == NOTE:
                tell(what)
            elif kind == LINE:
                self._heard.line(worker.name, what)
            elif kind == DAMAGE:
                self._heard.damage(worker.name, number, what)
            elif kind in (RESULT, ERROR):
                worker.chunks.popleft()
                self._heard.finished(number)
                turn.finish(number, what)

    def _losses(self) -> tuple[type[BaseException], ...]:
        """Return the errors that mean that a worker, or its machine, is gone."""
        known = self._ray.exceptions
        return (
            known.RayActorError, known.WorkerCrashedError, known.OutOfMemoryError,
            known.NodeDiedError, known.ObjectLostError, known.OwnerDiedError, StopIteration,
        )  # fmt: skip

    def _greet(self, worker: _Worker) -> None:
        """Take a worker on that has come, if it works as this process would."""
        try:
            name, theirs = self._ray.get(worker.hello)
        except self._losses() as error:
            self._workers.remove(worker)
            self._end(worker)
            self._never_came += 1
            if self._never_came >= TRIES:
                raise WorkerLostError(TRIES, _first_line(error)) from error
            log.warning("A worker ended before it began (%s); another is asked for.",
                        _first_line(error))  # fmt: skip
            return
        except self._ray.exceptions.RayError as error:
            raise WorkersUnlikeError(
                f"A worker of {self._cluster} cannot begin: {_last_line(error)}. On every machine "
                f"of it there must be what is installed here: {_listed(installed())}."
            ) from error
        self._never_came = 0
        ours = installed()
        if theirs.get(PROGRAM) != ours[PROGRAM]:
            raise WorkersUnlikeError(
                f"The worker {name} has {PROGRAM} {theirs.get(PROGRAM)}, and this is "
                f"{ours[PROGRAM]}. Install the same version on every machine of the cluster."
            )
        other = {part: theirs.get(part, "none") for part in {**ours, **theirs}
                 if theirs.get(part) != ours.get(part)}  # fmt: skip
        if other and _listed(other) not in self._unlike:
            self._unlike.add(_listed(other))
            log.warning(
                "The worker %s has %s; here are %s. What it finds may differ in the last bits.",
                name, _listed(other), _listed({part: ours.get(part, "none") for part in other}),
            )  # fmt: skip
        log.info("a worker has come: %s", name)
        worker.name = name

    def _bury(self, worker: _Worker, turn: Turn, error: BaseException) -> None:
        """Take a dead worker's chunks back; the one it was at counts as tried."""
        self._workers.remove(worker)
        self._end(worker)  # where it is only out of reach
        how = _first_line(error)
        turn.lose([number for number, _ in worker.chunks], how)
        log.warning(
            "The worker %s ended in the middle of its work (%s); another does that part again.",
            worker.name, how,
        )  # fmt: skip

    def _end(self, worker: _Worker) -> None:
        try:
            self._ray.kill(worker.actor)
        except Exception as error:  # it, or Ray itself, is gone already
            log.debug("%s: %s", worker.name, error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
