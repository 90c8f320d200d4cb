"""What the terminal shows: bars with rate and time left, tables, messages. Logs go to stderr."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .plain import escape


class Terminal(Console):
    """A console on stderr that cuts no table.

    A table wider than the console keeps its words whole, for lines of a log may be long and a
    terminal turns them. ``COLUMNS`` and ``LINES`` that leave no room (0, as some services set
    them) count as not set.

    Args:
        quiet: Whether it says nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        left_out = {name for name, least in _LEAST.items() if _too_few(name, least)}
        kept = {name: text for name, text in os.environ.items() if name not in left_out}
        super().__init__(stderr=True, quiet=quiet, _environ=kept)

    def print(self, *objects: Any, **how: Any) -> None:
        """Show what is given, as rich's console does."""
        wide = self.options.update(max_width=_WIDEST)
        tables = [one for one in objects if isinstance(one, Table)]
        for column in (column for table in tables for column in table.columns):
            column.overflow = "fold"
        needed = [Measurement.get(self, wide, table).minimum for table in tables]
        before = self._width
        if needed and max(needed) > self.width:
            self._width = max(needed)
        try:
            super().print(*objects, **how)
        finally:
            self._width = before


_WIDEST = 100_000
_LEAST = {"COLUMNS": 20, "LINES": 2}
"""The fewest columns and lines that can be written in."""


def _too_few(variable: str, least: int) -> bool:
    """Whether the environment asks for less than can be written in, or for no number."""
    text = os.environ.get(variable, "")
    return text.isdigit() and not (text.isascii() and least <= int(text[:9]))


class NotesOnConsole(logging.Handler):
    """Shows on a console what the stages warn of: what is made again, begun anew, left out."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, of equal ones the first."""
        try:
            text = record.getMessage()
            if text not in self._shown:
                self._shown.add(text)
                self._console.print(f"[yellow]Note[/]: {escape(text)}")
        except Exception:
            self.handleError(record)


class _Rate(ProgressColumn):
    """Steps a second, or seconds a step."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        text = f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        return Text(text, style="progress.data.speed")


class _Bars(Progress):
    """Bars with something above them."""

    above: Callable[[], RenderableType | None] | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is above, then the bars."""
        head = self.above() if self.above is not None else None
        if head is not None:
            yield head
        yield from super().get_renderables()


_Shown = TypeVar("_Shown", bound="ConsoleProgress")


class ConsoleProgress:
    """Shows each stage as a bar with rate and time left; a finished stage stays as a line.

    Where the output is not a terminal (a log file), a line is written every ``interval`` seconds
    and when a stage ends. Use as a context manager.

    Args:
        console: Where it is shown.
        interval: Seconds from one line to the next, where the output is no terminal.
        above: Gives what is shown above the bars while they move, if anything.
    """

    def __init__(
        self,
        console: Console,
        interval: float = 15.0,
        above: Callable[[], RenderableType | None] | None = None,
    ) -> None:
        self._console = console
        self._interval = interval
        self._live = console.is_terminal
        self._bars = _Bars(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}", justify="left"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._bars.above = above
        self._task: TaskID | None = None
        self._stage, self._total, self._done = "", 0, 0
        self._started = self._told = 0.0

    def start(self, stage: str, total: int) -> None:
        """A stage of ``total`` steps begins."""
        self.finish()
        self._stage, self._total, self._done = escape(stage), total, 0
        self._started = self._told = time.monotonic()
        self._task = self._bars.add_task(self._stage, total=total, note="")

    def advance(self, n: int = 1, note: str = "") -> None:
        """``n`` more steps are done."""
        self._done += n
        if self._task is not None:
            self._bars.update(self._task, advance=n, note=escape(note))
        now = time.monotonic()
        if not self._live and now - self._told >= self._interval:
            self._told = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate if rate else 0.0
            self._console.print(
                f"{self._stage}: {self._done}/{self._total}, {rate:.1f}/s, {left:.0f} s left"
                + (f"; {escape(note)}" if note and self._stage == "Training" else "")
            )

    def finish(self) -> None:
        """The stage is over."""
        if self._task is None:
            return
        self._bars.update(self._task, note="")
        self._bars.stop_task(self._task)
        self._task = None
        if not self._live:
            seconds = time.monotonic() - self._started
            self._console.print(f"{self._stage}: {self._done}/{self._total} in {seconds:.1f} s")

    def __enter__(self: _Shown) -> _Shown:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish()
        self._bars.stop()
