"""The standard streams of the command line's own process: closed or full, the work goes on."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


def mend_streams() -> None:
    """Open the standard streams that are closed, and let no message on stderr end the work.

    A stream that was closed (``2>&-``, a service without a terminal) leads to nowhere from here on:
    left closed, the next file that is opened gets its number, and what a library says would be
    written into it. What cannot be written to stderr (a full disk, a reader that has gone) is lost,
    with all that would follow; results on stdout are not, for who asked for them must know. It
    holds for the whole process: only who owns it, as the command line does, may call.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
        if getattr(sys, name) is None:
            opened = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)
    sys.stderr = cast(TextIO, Forgiving(sys.stderr))


class Forgiving:
    """A stream for messages: what cannot be written is lost, and ends nothing.

    Args:
        stream: What takes them. With the first message that it refuses it is led to nowhere, for
            Python would try that message again and again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if it can be."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Write what waits, if it can be."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        with suppress(OSError, ValueError):
            _to_nowhere(self._stream.fileno())
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _to_nowhere(number: int) -> None:
    """Let a file's number stand for the device that takes all and gives nothing."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    else:
        os.set_inheritable(number, True)  # child processes too find it taken
