"""Works for the engines' tests: picklable, quick, and each with a fault of its own."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from character_curator.damages import note_damage
from character_curator.engines.work import Tell
from character_curator.errors import CuratorError, WriteError


class TwoPartError(CuratorError):
    """An error that is made of something else than its message."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class Squares:
    """Squares numbers, telling of each; writes down which process did it.

    Attributes:
        log: The folder of what was done: a file ``opened-PID`` a worker, ``N-PID`` a chunk.
        slow: The chunks that take ``seconds``.
        kills: Chunks that kill their worker, the first ``times`` times.
        fails: A chunk that raises an error.
    """

    log: Path
    slow: tuple[int, ...] = ()
    seconds: float = 0.0
    kills: tuple[int, ...] = ()
    times: int = 1
    fails: tuple[int, ...] = ()
    full: bool = False

    def open(self, tell: Tell) -> Callable[[int], int]:
        """Write down who opens."""
        (self.log / f"opened-{os.getpid()}").touch()
        logging.getLogger("character_curator.works").warning("opened")
        warnings.warn("a library's future", FutureWarning, stacklevel=1)

        def square(number: int) -> int:
            tell(("begun", number))
            sys.stdout.write("what a library prints\n")
            if number in self.slow:
                time.sleep(self.seconds)
            if number in self.kills and len(list(self.log.glob(f"killed-{number}-*"))) < self.times:
                (self.log / f"killed-{number}-{time.time_ns()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if number in self.fails:
                if self.full:
                    raise WriteError("a.png", OSError(28, "No space left on device"))
                raise TwoPartError(Path("a.png"), f"number {number}")
            (self.log / f"{number}-{os.getpid()}").touch()
            return number * number

        return square


@dataclass(frozen=True)
class Spoiled:
    """Finds something damaged when it is opened, and a number's worth in each chunk.

    Attributes:
        log: A folder, for those that are to be killed.
        kills: A chunk that kills its worker the first time, when it has found what is damaged.
    """

    log: Path
    kills: int = -1

    def open(self, tell: Tell) -> Callable[[int], int]:
        """Find a damaged model, as each worker does."""
        note_damage("models", "a.onnx", "read again")

        def find(number: int) -> int:
            note_damage("images", "a folder", "made again", number)
            time.sleep(0.02)  # so that each worker gets some
            if number == self.kills:
                squares = Squares(self.log, kills=(number,)).open(tell)
                squares(number)
            return number

        return find


SPOILED = ["1 damaged model in a.onnx: read again", "28 damaged images in a folder: made again"]
"""What eight chunks of it come to, whoever does them."""


@dataclass(frozen=True)
class Environment:
    """Tells variables of the worker's environment."""

    def open(self, tell: Tell) -> Callable[[str], str | None]:
        """Nothing is loaded."""
        return os.environ.get
