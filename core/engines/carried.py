"""Errors, log lines and damage as data, so that they reach the caller from another process."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..damages import Damage

_SYSTEM = ("errno", "strerror", "filename")
"""What an ``OSError`` keeps beside its ``__dict__``."""


class WorkerTracebackError(Exception):
    """Where in a worker an error arose: the cause of the error that its caller sees."""


class CarriedError(NamedTuple):
    """An error as it travels.

    Its class is made again without its ``__init__``, which may want other arguments than the
    message.
    """

    kind: bytes
    """The class, pickled by name; empty for one that no other process can import."""
    message: str
    state: bytes
    """Attributes, pickled: those that can be."""
    where: str
    """The traceback, as text."""

    @classmethod
    def of(cls, error: BaseException) -> CarriedError:
        """Take an error apart."""
        state = {**vars(error)}
        if isinstance(error, OSError):
            state |= {name: getattr(error, name) for name in _SYSTEM}
        where = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls(
            _pickled(type(error)) or b"",
            str(error),
            pickle.dumps({name: value for name, value in state.items() if _pickled(value)}),
            where,
        )

    def rebuilt(self) -> BaseException:
        """Make the error again, with the worker's traceback as its cause."""
        state: Mapping[str, Any] = pickle.loads(self.state)  # noqa: S301
        if self.kind:
            kind: type[BaseException] = pickle.loads(self.kind)  # noqa: S301
            error = kind.__new__(kind)
            error.args = (self.message,)
            for name, value in state.items():
                setattr(error, name, value)
        else:
            error = RuntimeError(self.message)
        error.__cause__ = WorkerTracebackError(f"\n{self.where}")
        return error


class CarriedLine(NamedTuple):
    """A log line as it travels."""

    logger: str
    level: int
    message: str

    def say(self) -> None:
        """Log it here, as its logger is set up here."""
        log = logging.getLogger(self.logger)
        if log.isEnabledFor(self.level):
            log.log(self.level, "%s", self.message)


class CarriedDamage(NamedTuple):
    """Something damaged that a worker has found, as it travels."""

    damage: Damage
    opening: bool
    """Whether it was found when the work was opened, which each worker does, and not in a chunk."""
    once: bool = False
    """Whether it is the same however often it is noted."""


class Carrier(logging.Handler):
    """Hands on what is logged as data.

    Args:
        send: Takes each line.
    """

    def __init__(self, send: Callable[[CarriedLine], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line on, with the traceback that belongs to it."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._send(CarriedLine(record.name, record.levelno, text))


def _pickled(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value)
    except Exception:  # whatever an object can raise that is not made to travel
        return None
