"""Texts of a line an entry, as widgets hold them, within bounds."""

from __future__ import annotations

from ...core.counts import how_many
from ...core.errors import CuratorError

MOST_LINES = 10_000
LONGEST = 10_000
"""Letters of a line, at most."""


class LinesError(CuratorError):
    """A text in a widget has too many lines, or one that is too long."""


def lines_of(name: str, text: str, most: int = MOST_LINES) -> list[str]:
    """Return the lines of a text without the spaces around them; empty ones are left out.

    Args:
        name: What the widget is called.
        text: Its text.
        most: Lines, at most; a line has :data:`LONGEST` letters at most.

    Raises:
        LinesError: There are more, or one is longer; it says which.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if len(line) > LONGEST:
            raise LinesError(
                f"Line {number} of '{name}' has {how_many(len(line), 'letter')}, and a line takes "
                f"{LONGEST:,} at most. Shorten it: '{line[:40]}…'."
            )
        if line:
            found.append(line)
        if len(found) > most:
            raise LinesError(
                f"'{name}' has more than {how_many(most, 'line')}: line {number} is one too many. "
                "Take some away."
            )
    return found
