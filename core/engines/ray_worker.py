"""What an actor of Ray runs: it opens work, and makes results of chunks, telling as it goes.

Nothing heavy is imported here: how many threads a library takes is said before it is loaded.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import queue
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from ..damages import hear_damage
from .carried import CarriedDamage, CarriedError, Carrier
from .cores import SHARED_BY, processors
from .worker import DAMAGE, ERROR, LINE, NOTE, RESULT

PROGRAM = "character-curator"
_BITS = ("torch", "numpy", "pillow", "opencv-python", "onnxruntime", "transformers", "diffusers",
         "open-clip-torch", "scikit-learn", "polars")  # fmt: skip
"""The libraries whose versions may change the last bits of what a worker finds."""


class RayWorker:
    """An actor; it works on one chunk at a time.

    Args:
        levels: Least level that is logged, by logger; ``""`` is the root.
        threads: How many processors of the machine are this actor's.
    """

    def __init__(self, levels: Mapping[str, int], threads: int) -> None:
        os.environ[SHARED_BY] = str(max(1, processors() // threads))
        warnings.filterwarnings("ignore", category=FutureWarning)
        self._said: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._opened: dict[bytes, Callable[[Any], Any]] = {}
        # All chunks in one thread: what libraries keep by thread is made once.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="work")
        self._opening = False
        hear_damage(
            lambda found, once: self._say(DAMAGE, CarriedDamage(found, self._opening, once))
        )
        logging.getLogger().handlers[:] = [Carrier(lambda line: self._say(LINE, line))]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    def hello(self) -> tuple[str, dict[str, str]]:
        """Return where this is, and what may make its results other than the caller's."""
        return f"process {os.getpid()} on {socket.gethostname()}", installed()

    def work(
        self, description: bytes, chunk: bytes
    ) -> Generator[list[tuple[str, bytes]], None, None]:
        """Work on a chunk.

        Args:
            description: The work, pickled.
            chunk: A chunk of it, pickled.

        Yields:
            What is to be said, as soon as it is: (kind, pickled). A result or an error is the last.
        """
        self._thread.submit(self._work, description, chunk)
        over = False
        while not over:
            said = [self._said.get()]
            while not self._said.empty():
                said.append(self._said.get())
            over = any(kind in (RESULT, ERROR) for kind, _ in said)
            yield said

    def _work(self, description: bytes, chunk: bytes) -> None:
        try:
            run = self._opened.get(description)
            if run is None:
                self._opening = True
                run = pickle.loads(description).open(lambda note: self._say(NOTE, note))  # noqa: S301
                self._opened[description] = run
            self._opening = False
            self._say(RESULT, run(pickle.loads(chunk)))  # noqa: S301
        except BaseException as error:  # whatever it is, the caller waits for it
            self._say(ERROR, CarriedError.of(error))

    def _say(self, kind: str, what: Any) -> None:
        self._said.put((kind, pickle.dumps(what)))


def installed() -> dict[str, str]:
    """Return what may make results differ from one machine to another: versions and processor."""
    found = {PROGRAM: str(vars(sys.modules[__name__.partition(".engines")[0]])["__version__"])}
    for name in _BITS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"python": platform.python_version(), "processor": platform.machine()}
