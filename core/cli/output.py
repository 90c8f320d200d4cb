"""What every command needs to talk: exit codes, progress, JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..leaving import EXIT_STOPPED as EXIT_STOPPED
from ..options import option
from .plain import escape as escape

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from .console import ConsoleProgress

Command = Callable[..., argparse.ArgumentParser]
"""``command(name, run, text)`` adds a command and returns its parser, for its arguments."""

EXIT_DONE, EXIT_DIFFERENT, EXIT_USER = 0, 1, 2


def said(model: type[BaseModel], field: str) -> dict[str, Any]:
    """Return the default and the help of an option, as a model's field says them."""
    described = option(model, field)
    shown = str(described.default).lower() if described.default is None else described.default
    text = f"{described.text} (default {shown})"
    return {"default": described.default, "help": text.replace("%", "%%")}


def progress_on(console: Console) -> ConsoleProgress:
    """Return a watcher that shows the stages on a console; use it as a context manager."""
    from .console import ConsoleProgress

    return ConsoleProgress(console)


def say(console: Console, notes: Sequence[str]) -> None:
    """Show what is to be said of how images were read and a dataset was written."""
    for note in notes:
        console.print(f"[yellow]Note[/]: {escape(note)}")


def clip_of(text: str | None) -> tuple[str, str] | None:
    """Return model and weights of an option ``MODEL:WEIGHTS``, whose model may be a folder."""
    if not text:
        return None
    if Path(text).is_dir():
        return text, ""
    model, _, weights = text.partition(":")
    return model, weights


def write_json(value: Any) -> None:
    """Write a value to stdout as JSON.

    Nothing more is said where whoever reads it has gone, such as ``head``, or there is no stdout.

    Raises:
        OSError: It cannot be written: the disk is full, for instance.
    """
    if sys.stdout is None:  # as a program without a terminal has it
        return
    try:
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # Python would try once more at its end, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
