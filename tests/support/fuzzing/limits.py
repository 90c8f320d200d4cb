"""A time and a memory that a piece of work may take, held while it runs in this process."""

from __future__ import annotations

import faulthandler
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

SECONDS = 10.0
"""How long one example may take; most take milliseconds, on a machine that others use too."""
MEGABYTES = 1500
"""How much memory one example may add: an image of the most pixels that are decoded takes 300."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class TooSlowError(BaseException):
    """An example takes longer than any may."""


class TooLargeError(BaseException):
    """An example takes more memory than any may."""


@contextmanager
def bounded(seconds: float = SECONDS, megabytes: int = MEGABYTES, told=None):
    """Let what runs in it take so much time and so much more memory.

    Memory is held twice on Linux: no more can be asked of the system (which code may take as an
    image too large), and what was really held is measured. What hangs outside of Python, where no
    signal is seen, ends the process with a traceback of where.

    Args:
        seconds: Of time.
        megabytes: Of memory.
        told: The file that such a traceback is written to.

    Raises:
        TooSlowError: It took longer.
        TooLargeError: It took more memory.
    """

    def late(number, frame):
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds * 3, exit=True, file=told or sys.__stderr__)
    held = _reset()
    try:
        with _asked(megabytes * 3):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
    added = _read("VmHWM") - held
    if added > megabytes:
        raise TooLargeError(f"{added:.0f} MB")


@contextmanager
def _asked(megabytes: int):
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = int((_read("VmSize") + megabytes) * 2**20)
    if _STATUS.exists() and (now == resource.RLIM_INFINITY or limit < now):
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (now, most))


def _reset() -> float:
    """Let the peak of memory be counted from now; return what is held, in MB."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return float("inf")  # no such system: only time is held
    return _read("VmHWM")


def _read(name: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
