"""What an edit would do to a folder's captions, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..counts import how_many, worded
from ..dataset.trigger_words import is_named, words_of
from .edits import Operation, Prune
from .table import CaptionTable


@dataclass(frozen=True)
class Change:
    """A caption that becomes another.

    Attributes:
        image: The image's name below the folder.
        file: The caption's file below the folder.
        before: The caption as it is; empty if there is none.
        after: The caption as it would be.
        data: The bytes of the file as they are; ``None`` where there is none.
    """

    image: str
    file: str
    before: str
    after: str
    data: bytes | None = None


@dataclass(frozen=True)
class Edit:
    """A preview: all that would change, and nothing written.

    Attributes:
        table: The captions as they are.
        what: What is done, an entry an operation.
        changes: What changes, in the order of the images.
        notes: What is to be said of it, a sentence each.
    """

    table: CaptionTable
    what: tuple[str, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """The captions as they would be, in the order of the table."""
        changed = {change.image: change.after for change in self.changes}
        return [changed.get(row.image, row.text) for row in self.table.rows]


def edit(table: CaptionTable, operations: Sequence[Operation], *, images: str = "*") -> Edit:
    """Do operations one after the other, each with what the one before has left.

    Args:
        table: The captions.
        operations: What is done.
        images: Only captions of images whose names fit, such as ``portrait*``; shares of captions
            are of these.

    Raises:
        CaptionFolderError: No image's name fits.
        EditError: An operation cannot be done.
    """
    fits = table.named(images)
    rows = [row for row, one in zip(table.rows, fits, strict=True) if one and not row.unread]
    texts = [row.text for row in rows]
    notes: list[str] = []
    for operation in operations:
        if isinstance(operation, Prune):
            gone = operation.always(texts)
            notes.append(f"Pruned: {', '.join(gone)}." if gone else "There is nothing to prune.")
        texts = operation(texts)
    said = (*map(str, operations), *((f"of images {images}",) if images != "*" else ()))
    return _edit_to(table, [row.image for row in rows], texts, said, notes)


def rewritten(table: CaptionTable, texts: dict[str, str], what: Sequence[str]) -> Edit:
    """Return the edit that gives images these captions, by their names."""
    kept = {row.image for row in table.rows if not row.unread}
    names = [name for name in texts if name in kept]
    return _edit_to(table, names, [texts[name] for name in names], what, [])


def _edit_to(
    table: CaptionTable,
    names: Sequence[str],
    texts: Sequence[str],
    what: Sequence[str],
    notes: list[str],
) -> Edit:
    new = dict(zip(names, texts, strict=True))
    changes: dict[str, Change] = {}
    for row in table.rows:
        after = new.get(row.image, row.text)
        if after != row.text:  # of two images with one stem (a.jpg, a.png) the file is one
            changes[row.file] = Change(row.image, row.file, row.text, after, row.data)
    made = tuple(changes.values())
    if empty := sum(not change.after for change in made):
        notes.append(
            f"{how_many(empty, 'caption')} would be empty: a training leaves their images out."
        )
    lost = sum(
        is_named(change.before, table.trigger) and not is_named(change.after, table.trigger)
        for change in made
    )
    if words_of(table.trigger) and lost:
        notes.append(f"{how_many(lost, 'caption')} would lose the trigger word '{table.trigger}'.")
    if table.told and words_of(table.trigger) and table.trigger != table.told:
        notes.append(
            f"The trigger word that this folder tells a training is '{table.told}', not "
            f"'{table.trigger}': train with --trigger '{table.trigger}', or export again with it."
        )
    if unread := sum(row.unread for row in table.rows):
        stay = worded(unread, "stays", "stay")
        notes.append(
            f"{how_many(unread, 'caption')} in an unknown encoding, or behind a link out of the "
            f"folder, {stay} so."
        )
    return Edit(table, tuple(what), made, tuple(notes))
