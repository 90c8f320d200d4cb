"""What runs in a worker process: it opens work, and makes results of chunks until it is ended.

Nothing heavy is imported here: how many threads a library takes is said before it is loaded.
"""

from __future__ import annotations

import _thread
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from ..damages import hear_damage
from .carried import CarriedDamage, CarriedError, CarriedLine, Carrier

NOTE, LINE, DAMAGE, RESULT, ERROR = "note", "line", "damage", "result", "error"
"""What a worker sends: (one of these, what it is)."""
WORK, CHUNK, END = "work", "chunk", "end"
"""What it is sent: (one of these, the pickled description or chunk)."""
GRACE = 2.0
"""Seconds that a worker has to leave its files in order when it is to end."""


def threads_environment(threads: int) -> dict[str, str]:
    """Return the environment in which libraries that are loaded later take so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
             "NUMEXPR_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "POLARS_MAX_THREADS")  # fmt: skip
    return dict.fromkeys(names, str(threads))


def work_until_ended(
    connection: Connection, environment: Mapping[str, str], levels: Mapping[str, int]
) -> None:
    """Be a worker.

    Args:
        connection: To the caller. When its other end is closed, which also happens when the
            caller is killed, this process ends.
        environment: Variables to set before any library is loaded.
        levels: Least level that is logged, by logger; ``""`` is the root.
    """
    os.environ.update(environment)
    if "torch" in sys.modules:  # by the program that started us
        sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS", "1")))
    if sys.stdout is not None:  # what libraries print is no result of the command
        os.dup2(2, 1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    ending = threading.Event()
    _heed_the_caller_only(ending)
    received: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received, ending), daemon=True).start()
    lock = threading.Lock()

    def send(kind: str, what: Any) -> None:
        data = pickle.dumps((kind, what))
        try:
            with lock:
                connection.send_bytes(data)
        except OSError:  # the caller is gone
            os._exit(0)

    _log_to(lambda line: send(LINE, line), levels)
    opening = False
    hear_damage(lambda damage, once: send(DAMAGE, CarriedDamage(damage, opening, once)))
    opened: dict[bytes, Callable[[Any], Any]] = {}
    run: Callable[[Any], Any] | None = None
    description = b""
    try:
        while True:
            kind, data = received.get()
            if kind == END:
                break
            if kind == WORK:
                description, run = data, opened.get(data)
                continue
            try:
                if run is None:
                    opening = True
                    run = pickle.loads(description).open(lambda note: send(NOTE, note))  # noqa: S301
                    opened[description] = run
                opening = False
                send(RESULT, run(pickle.loads(data)))  # noqa: S301
            except Exception as error:
                send(ERROR, CarriedError.of(error))
    except KeyboardInterrupt:
        pass
    # Returning lets libraries' semaphores be cleaned up; the reader ends what takes too long.


def _receive(
    connection: Connection, received: queue.SimpleQueue[tuple[str, bytes]], ending: threading.Event
) -> None:
    """Take in what the caller sends, also while a chunk is worked on; end when it is gone."""
    try:
        while True:
            received.put(pickle.loads(connection.recv_bytes()))  # noqa: S301
    except (EOFError, OSError):
        ending.set()
        received.put((END, b""))
        if hasattr(signal, "pthread_kill"):  # which also ends a wait
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()
        time.sleep(GRACE)
        os._exit(0)


def _heed_the_caller_only(ending: threading.Event) -> None:
    """Let Ctrl-C, which a terminal sends to all processes of a command, be the caller's affair."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if ending.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)


def _log_to(send: Callable[[CarriedLine], None], levels: Mapping[str, int]) -> None:
    root = logging.getLogger()
    root.handlers[:] = [Carrier(send)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
