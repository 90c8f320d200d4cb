"""What the widgets of EditCaptions ask for, as operations on captions."""

from __future__ import annotations

from typing import Any

from ...core.errors import CuratorError
from ..ui.lines import lines_of

_MOST = 1000
"""Replacements, at most: each goes through every caption."""


class ReplacementError(CuratorError):
    """A line of replacements does not say what comes in the place of what."""

    def __init__(self, line: str) -> None:
        super().__init__(f"'{line[:200]}' has no =>. Write: old words => new words")


def operations(
    replace: str, remove: str, prune: float, keep: str, add: str, trigger: str, deduplicate: bool
) -> list[Any]:
    """Return what the widgets ask for, in their order.

    Raises:
        ReplacementError: A line of ``replace`` has no ``=>``.
        LinesError: There are too many lines, or one is too long.
    """
    from ...core.captions import edits

    done: list[Any] = []
    lines_of("replace", replace, _MOST)
    # Spaces behind count: what is put in front of a text needs one.
    for line in filter(str.strip, replace.splitlines()):
        old, arrow, new = line.partition("=>")
        if not arrow:
            raise ReplacementError(line.strip())
        words = old.strip()
        if len(words) > 2 and words[0] == words[-1] == "/":
            done.append(edits.Substitute(words[1:-1], new.removeprefix(" ")))
        else:
            done.append(edits.Replace(words, new.strip()))
    if remove.strip():
        done.append(edits.Remove(remove))
    if prune > 0:
        done.append(edits.Prune(prune, keep, trigger))
    if add.strip():
        done.append(edits.Add(add))
    if trigger:
        done.append(edits.Trigger(trigger))
    if deduplicate:
        done.append(edits.Deduplicate())
    return done
