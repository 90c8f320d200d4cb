"""How long images took, kept image by image, so that a run that was killed still knows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ..generation.run import GENERATING
from ..json_text import number, parse
from ..plain_files import plain_text
from ..progress import Progress


class Times:
    """Seconds by image, in a file of lines that is only ever added to.

    Args:
        path: The file; made with its folder when there is something to write.
        clock: Seconds since some moment.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock

    def watch(self, progress: Progress) -> Progress:
        """Return a watcher of a generation that passes on what it sees and notes the times."""
        return _Watch(self, progress)

    def add(self, names: Iterable[str], seconds: float) -> None:
        """Note that some images took so long together."""
        listed = list(names)
        if not listed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        each = round(seconds / len(listed), 6)
        lines = "".join(json.dumps({"image": n, "seconds": each}) + "\n" for n in listed)
        with self.path.open("a+b") as file:
            # A line that a kill has cut off is ended, or the next would be lost with it.
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                lines = f"\n{lines}"
            file.write(lines.encode("utf-8"))

    def of(self, names: Iterable[str]) -> tuple[float, int]:
        """Return the seconds that images took, and of how many of them it is not known.

        An image that was made again took as long as the last time. A line that a kill has cut off
        counts for nothing.
        """
        known: dict[str, float] = {}
        try:
            lines = plain_text(self.path, errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                noted = parse(line, strict=True)
                known[str(noted["image"])] = number(noted["seconds"])
            except (ValueError, KeyError, TypeError, ArithmeticError):
                continue
        found = [known.get(name) for name in names]
        return sum(s for s in found if s is not None), sum(s is None for s in found)


class _Watch:
    """Tells whose time it is: images of a batch are done together, and share what it took."""

    def __init__(self, times: Times, inner: Progress) -> None:
        self._times, self._inner = times, inner
        self._since = self._until = times.clock()
        self._done: list[str] = []
        self._generating = True

    def start(self, stage: str, total: int) -> None:
        self._generating = stage == GENERATING  # between waves, images are measured
        self._since = self._until = self._times.clock()
        self._inner.start(stage, total)

    def advance(self, n: int = 1, note: str = "") -> None:
        now = self._times.clock()
        if not self._generating:
            pass
        elif n == 1 and note.endswith(".png"):
            self._done.append(note)
            self._until = now
        elif n == 0:  # the next batch has begun
            self._share()
        else:  # what was there already took this run no time
            self._since = self._until = now
        self._inner.advance(n, note)

    def finish(self) -> None:
        self._share()
        self._inner.finish()

    def _share(self) -> None:
        if self._done:
            self._times.add(self._done, self._until - self._since)
            self._since, self._done = self._until, []
