"""How the command line's process ends where it is asked to stop, at whatever moment that comes.

Importing this costs nothing, so that the signals are taken before all else is imported.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

EXIT_STOPPED = 130
"""How a process ends that was stopped, as by Ctrl-C."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_MOST = 2
"""Requests to stop that let the work clean up after itself; one more ends it at once."""


class _State:
    working = False
    asked = 0


def stop(number: int, frame: FrameType | None) -> None:
    """Stop the work, as Ctrl-C does.

    Before and after the work, and asked for the third time, it ends the process at once, with
    :data:`EXIT_STOPPED`.

    Raises:
        KeyboardInterrupt: The work is to save what it has, and to end.
    """
    _State.asked += 1
    if _State.working and _State.asked <= _MOST:
        raise KeyboardInterrupt
    _end_now()


def run_to_the_end(load: Callable[[], Callable[[], int]]) -> int:
    """Run what this process is there for; only who owns the process may call.

    SIGINT, SIGTERM and SIGHUP are taken for the rest of the process, save those that are ignored,
    as nohup has it. When everything is done they no longer count: the work's own code stands.

    Args:
        load: Imports what is to be run, and returns it. Nothing is there to be saved meanwhile.

    Returns:
        The exit code that the work returned; :data:`EXIT_STOPPED` where it was stopped and did not
        end well nonetheless.
    """
    taken = _take()
    atexit.register(_ignore, taken)  # the first to be registered is the last to be called
    run = load()
    try:
        try:
            _State.working = True
            code = run()
        finally:
            _State.working = False
    except KeyboardInterrupt:
        _State.working = False
        return EXIT_STOPPED
    except Exception as error:
        if not _State.asked:
            raise
        # Libraries in C turn an interrupted import into an error of their own.
        with suppress(OSError, ValueError):
            sys.stderr.write(f"Stopped ({type(error).__name__}: {error}).\n")
        return EXIT_STOPPED
    return EXIT_STOPPED if _State.asked and code else code


def _take() -> list[int]:
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    taken = [one for one in numbers if signal.getsignal(one) != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, stop)
    return taken


def _ignore(numbers: list[int]) -> None:
    """Python would put the system's handlers back at its end, and they kill."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _end_now() -> None:
    for stream in (sys.stdout, sys.stderr):
        # It may be in the middle of being written (RuntimeError), closed, or lead nowhere.
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
    os._exit(EXIT_STOPPED)
