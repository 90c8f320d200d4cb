"""What the widgets of EditCaptions ask for, as operations on captions."""

from __future__ import annotations

from typing import Any


def operations(
    replace: str, remove: str, prune: float, keep: str, add: str, trigger: str, deduplicate: bool
) -> list[Any]:
    """Return what the widgets ask for, in their order.

    Raises:
        ValueError: A line of ``replace`` has no ``=>``.
    """
    from ...core.captions import edits

    done: list[Any] = []
    for line in filter(str.strip, replace.splitlines()):
        old, arrow, new = line.partition("=>")
        if not arrow:
            raise ValueError(f"'{line.strip()}' has no =>. Write: old words => new words")
        words = old.strip()
        if len(words) > 2 and words[0] == words[-1] == "/":
            # Spaces behind count: what is put in front of a text needs one.
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
