"""What DatasetExport does where a chosen image turns out to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_CONNECT = (
    "Connect BalancedSelect's 'images' and 'selection' to DatasetExport, which then chooses others "
    "in their place; or replace them, or take them out of the folder."
)
_WITH_MASKS = (
    "Others cannot be chosen in their place, because the masks that are connected belong to those "
    "that were chosen. Replace them, or take them out of the folder."
)


def written(
    write: Callable[[Any, Any], Any], images: Any, selection: Any, *, redo: bool
) -> tuple[Any, list[str]]:
    """Write a dataset; where a chosen image turns out to be damaged, choose again without it.

    Args:
        write: Writes images, and the selection that they are of.
        images: Of them.
        selection: What they were chosen by; ``None`` where that is not connected.
        redo: Whether others may be chosen: masks that were given belong to those that were.

    Returns:
        What was written, and what is to be said of it, a sentence each.
    """
    from ...core.damages import note_damage
    from ...core.dataset.images import UnreadableSourcesError
    from ...core.selection import select_again

    left_out: dict[str, str] = {}
    while True:
        try:
            return write(images, selection), [
                f"Left out, because it is damaged, and the subset chosen again: {path} ({reason})."
                for path, reason in left_out.items()
            ]
        except UnreadableSourcesError as error:
            if selection is None or selection.problem is None or not _is_of(images, selection):
                raise UnreadableSourcesError(error.reasons, _CONNECT) from error
            if not redo:
                raise UnreadableSourcesError(error.reasons, _WITH_MASKS) from error
            if error.reasons.keys() <= left_out.keys():
                raise
            note_damage(
                "chosen images", images.root, "left out, and the subset is chosen again",
                len(error.reasons.keys() - left_out.keys()),
            )  # fmt: skip
            left_out |= error.reasons
            selection = select_again(selection, error.reasons)
            images = selection.images


def _is_of(images: Any, selection: Any) -> bool:
    """Whether images are those of a selection, and marked as it marked them."""
    columns = ["path", "selected"]
    ours, theirs = images.table, selection.images.table
    return {*columns} <= {*ours.columns} and ours.select(columns).equals(theirs.select(columns))
