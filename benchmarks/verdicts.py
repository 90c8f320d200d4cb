"""What a benchmark promises, and whether its figures keep it: clear lines, and JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """A promise and the figure that it is about.

    Attributes:
        promise: What is promised, in words.
        measured: The figure.
        limit: What it is compared with.
        at_least: Whether the figure must reach the limit; otherwise it must not exceed it.
    """

    promise: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the figure keeps the promise."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        word = "KEPT" if self.kept else "NOT KEPT"
        return f"{word}: {self.promise}: {self.measured:.3g} (promised {sign} {self.limit:g})"


def conclude(report: dict[str, Any], verdicts: list[Verdict], file: Path | None) -> int:
    """Print the verdicts, write everything as JSON, and return the exit code: 1 if one failed."""
    for verdict in verdicts:
        print(verdict)
    sys.stdout.flush()
    if file:
        listed = [{**asdict(verdict), "kept": verdict.kept} for verdict in verdicts]
        file.write_text(json.dumps({**report, "verdicts": listed}, indent=2) + "\n")
    return 0 if all(verdict.kept for verdict in verdicts) else 1
