"""Write an edit of captions, and take it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from .. import atomic
from ..dataset.publish import settle
from ..dataset.recaptioning import Rewritten, check_unchanged, recaption
from ..plain_files import plain_bytes
from ..reading.own import VERSIONS_SUFFIX, is_dataset, is_version_name
from ..reading.texts import decoded
from .history import (
    Changed,
    Step,
    append_step,
    append_undo,
    forget_last,
    history_file,
    read_history,
)
from .preview import Edit
from .table import CaptionFolderError


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        number: The step's number, by which the history calls it; 0 if there was nothing to do.
        what: What was done, in words.
        changed: How many captions became others.
        kept: Images whose captions were left, since somebody has changed them after the step that
            was taken back.
        previous: Where the version before is kept, of an exported dataset.
    """

    number: int
    what: tuple[str, ...]
    changed: int
    kept: tuple[str, ...] = ()
    previous: Path | None = None


def write(edit: Edit) -> Written:
    """Write the captions of an edit, and what takes it back before them.

    An exported dataset becomes a new version, with metadata and checksums that agree; in any other
    folder the captions' files are replaced, each whole or not at all. Captions become UTF-8.

    Raises:
        CaptionFolderError: It is an earlier version of a dataset, or the folder cannot be written.
        CaptionsChangedError: Captions have become others since they were read; nothing is written.
        OutputError: The dataset cannot be written.
        HistoryError: The record of earlier edits is damaged; nothing is written.
    """
    root = edit.table.root
    if not edit.changes:
        return Written(0, edit.what, 0)
    number = 0

    def note() -> None:
        nonlocal number
        number = len(_settled(root)) + 1
        try:
            append_step(root, Step(number, _now(), edit.what, changes))
        except OSError as error:
            raise _unwritable(history_file(root), error) from error

    changes = {
        one.file: Changed(one.image, one.data, _stored(one.after), one.before, one.after)
        for one in edit.changes
    }
    files = {
        file: Rewritten(one.before, one.after, one.image, one.new) for file, one in changes.items()
    }
    _check_newest(root)
    if is_dataset(root):
        try:
            previous = recaption(root, files, first=note)
        except BaseException:
            if number:
                forget_last(root)
            raise
        return Written(number, edit.what, len(changes), previous=previous)
    _check_inside(root, files)
    read_history(root)
    check_unchanged(root, files)
    note()
    _write(root, files)  # where that fails, what is written already can be taken back
    return Written(number, edit.what, len(changes))


def undo(folder: Path | str) -> Written:
    """Take back the last edit that was not taken back yet, to the byte.

    A caption that somebody has changed since then is left, and named.

    Args:
        folder: The dataset or folder of images.

    Raises:
        CaptionFolderError: There is nothing to take back, or the folder cannot be written.
    """
    root = Path(folder).expanduser().resolve()
    if is_dataset(root) or not root.exists():
        settle(root)
    _check_newest(root)
    steps = [step for step in read_history(root) if not step.undone]
    if not steps:
        raise CaptionFolderError(
            f"There is no edit of captions in {root} to take back: {history_file(root)} "
            f"{'holds none' if history_file(root).is_file() else 'is not there'}."
        )
    step = steps[-1]
    files: dict[str, Rewritten] = {}
    kept = []
    for file, one in step.changes.items():
        found = _bytes_of(root / file)
        if found == one.after and found != one.before:
            files[file] = Rewritten(found, one.before, one.image, _text_of(one))
        elif found != one.before:
            kept.append(one.image)
    if is_dataset(root):
        previous = recaption(root, files, back=True) if files else None
    else:
        previous = None
        _check_inside(root, files)
        _write(root, files)
    try:
        append_undo(root, step.number, _now())
    except OSError as error:
        raise _unwritable(history_file(root), error) from error
    return Written(step.number, step.what, len(files), tuple(kept), previous)


def _write(root: Path, files: Mapping[str, Rewritten]) -> None:
    """Write the captions of a folder that is no dataset."""
    try:
        for name, one in files.items():
            # What a link leads to is written, and the link stays.
            path = (root / name).resolve()
            if one.after is None:
                path.unlink()
            else:
                atomic.write_bytes(path, one.after)
    except OSError as error:
        raise _unwritable(root, error) from error


def _settled(root: Path) -> list[Step]:
    """Return the steps before this one; a last one that a kill has kept from being done goes."""
    steps = read_history(root)
    if steps and not steps[-1].undone and steps[-1].changes:
        changes = steps[-1].changes.items()
        if all(one.before != one.after for _, one in changes) and all(
            _bytes_of(root / file) == one.before for file, one in changes
        ):
            forget_last(root)
            del steps[-1]
    return steps


def _check_inside(root: Path, files: Mapping[str, Rewritten]) -> None:
    for name in files:
        place = (root / name).resolve()
        if not place.is_relative_to(root):
            raise CaptionFolderError(
                f"{root / name} is a link to {place}, which is not in the folder. Nothing was "
                "written. Edit the folder that it lies in, or put a copy in the link's place."
            )


def _check_newest(root: Path) -> None:
    if root.parent.name.endswith(VERSIONS_SUFFIX) and is_version_name(root.name):
        raise CaptionFolderError(
            f"{root} is an earlier version of a dataset, and stays as it is. Edit "
            f"{root.parent.with_suffix('')}, or bring the version back first: character-curator "
            f"restore {root.parent.with_suffix('')} {int(root.name[1:])}"
        )


def _stored(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "replace")


def _bytes_of(path: Path) -> bytes | None:
    try:
        return plain_bytes(path)
    except FileNotFoundError:
        return None


def _text_of(one: Changed) -> str:
    """Return the caption that a file's earlier bytes are, or that the metadata had."""
    found = decoded(one.before) if one.before is not None else None
    return one.text if found is None else " ".join(found[0].split())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _unwritable(place: Path, error: OSError) -> CaptionFolderError:
    return CaptionFolderError(
        f"{place} cannot be written: {error.strerror or error}. What has been changed already can "
        "be taken back with 'character-curator captions undo'. Mend that, and run again."
    )
