"""Put a whole folder in the place of another, keeping the old one as a numbered version.

While a dataset ``NAME`` is written it is ``.NAME.tmp-XXXX`` beside its place, and its list of
checksums is its last file: a folder with the list is whole. Then, with two renames,

1. ``NAME`` becomes ``NAME.versions/v0001`` (its number), and
2. ``.NAME.tmp-XXXX`` becomes ``NAME``.

After that the versions' images are stored once; see :mod:`.shared_images`.

A kill before (1) leaves the old dataset in its place, and a kill between (1) and (2) leaves none:
the next export finishes step (2) first. Whatever else is left over it removes. Nothing under
``NAME`` is ever half a dataset. A lock, which the system releases when the process ends however
it ends, keeps two exports to one place apart.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .. import atomic
from ..damages import note_damage
from ..errors import CuratorError
from ..reading.own import VERSIONS_SUFFIX, is_dataset, is_version_name
from .checksums import (
    FILE_NAME,
    NotADatasetError,
    exported_checksums,
    is_listed,
    read_checksums,
)
from .version_record import Parent, fingerprint_of, read_record

log = logging.getLogger(__name__)

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class OutputError(CuratorError):
    """The output folder cannot be used."""


class DiskFullError(CuratorError):
    """The disk is full."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"The disk is full (or a quota is used up) at {place}. What had been written of the "
            "new dataset is removed, an earlier version is untouched. Free some space, or export "
            "to another disk."
        )


@dataclass(frozen=True)
class Published:
    """What became of a folder that was to take a dataset's place.

    Attributes:
        previous: Where the version before is now; ``None`` if there was none, or if it stayed.
        unchanged: Whether the place held the same already, file by file, and was left as it was.
        damaged: Files of the version before that were gone or changed since its export.
    """

    previous: Path | None
    unchanged: bool
    damaged: tuple[str, ...] = ()


def versions_folder(output: Path) -> Path:
    """Return where earlier versions of a dataset are kept."""
    return output.parent / f"{output.name}{VERSIONS_SUFFIX}"


def versions(output: Path) -> list[Path]:
    """Return the earlier versions of a dataset, the oldest first."""
    folder = versions_folder(output)
    if not folder.is_dir():
        return []
    numbered = [p for p in folder.iterdir() if is_version_name(p.name)]
    return sorted(numbered, key=lambda path: int(path.name[1:]))


def version_of(dataset: Path) -> int:
    """Return the number of a dataset's version: 1 for the first export to its place.

    A version that was kept when another took its place is known by its folder's name, the newest
    by its record, unless as many were kept already as in a place that it was copied to.
    """
    place = dataset.resolve()
    if place.parent.name.endswith(VERSIONS_SUFFIX) and is_version_name(place.name):
        return int(place.name[1:])
    kept, record = _highest(place), read_record(place)
    return record.number if record is not None and record.number > kept else kept + 1


def next_version(output: Path) -> tuple[int, Parent | None]:
    """Return the number of the next version of a dataset, and the version that it replaces."""
    if not is_dataset(output):
        return _highest(output) + 1, None
    number, record = version_of(output), read_record(output)
    try:
        mark = record.fingerprint if record else fingerprint_of(exported_checksums(output))
    except NotADatasetError:
        mark = ""
    return number + 1, Parent(number, mark)


def _highest(output: Path) -> int:
    return max((int(path.name[1:]) for path in versions(output)), default=0)


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """Yield a new folder to fill; remove it afterwards unless :func:`publish` has taken it.

    Raises:
        OutputError: The place is taken by something that is not a dataset, cannot be written, or
            another export to it is running.
        DiskFullError: The disk is full.
    """
    folder = output.parent / f".{output.name}.tmp-{secrets.token_hex(4)}"
    try:
        check_place(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        with _locked(output):
            recover(output)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError(output.parent) from error
        raise OutputError(
            f"Cannot write the dataset to {output}: {error}. An earlier version is untouched. "
            "Mend that, or choose another place."
        ) from error


def publish(folder: Path, output: Path) -> Published:
    """Rename a whole ``folder`` to ``output``.

    What is there is compared file by file. Where it is equal it stays; where it was equal, and
    files of it are gone or changed since, it is kept as it is found, as any version before.
    """
    if not output.is_dir() or not any(output.iterdir()):
        with suppress(FileNotFoundError):
            output.rmdir()  # an empty folder; Windows does not rename onto one
        atomic.sync_tree(folder)
        folder.rename(output)
        atomic.sync(output.parent)
        return Published(None, unchanged=False)
    damaged = damage(output, folder)
    if not damaged and read_checksums(folder) == exported_checksums(output):
        return Published(None, unchanged=True)
    kept = versions_folder(output)
    atomic.make_folders(kept)
    archived = kept / f"v{version_of(output):04d}"
    note_damage("files of the version before", output, f"kept as found in {archived}", len(damaged))
    atomic.sync_tree(folder)
    output.rename(archived)
    folder.rename(output)
    atomic.sync(kept)
    atomic.sync(output.parent)
    return Published(archived, unchanged=False, damaged=damaged)


def damage(dataset: Path, fresh: Path | None = None) -> tuple[str, ...]:
    """Return the files of a dataset that are gone or changed since its export, in order.

    Args:
        dataset: Any dataset.
        fresh: A folder that has just been written and hashed: a file that is one with a file there
            is not read again.
    """
    try:
        listed = read_checksums(dataset)
    except NotADatasetError:
        return (FILE_NAME,)
    known = {} if fresh is None else read_checksums(fresh)
    return tuple(
        sorted(name for name, digest in listed.items() if not _is_whole(dataset, name, digest,
                                                                         fresh, known.get(name)))
    )  # fmt: skip


def _is_whole(dataset: Path, name: str, digest: str, fresh: Path | None, known: str | None) -> bool:
    path = dataset / name
    if not path.is_file():
        return False
    if fresh is not None and known == digest and path.samefile(fresh / name):
        return True
    return is_listed(path, digest)


def recover(output: Path) -> None:
    """Finish or undo what a killed export has left."""
    prefix = f".{output.name}.tmp-"
    left = [p for p in output.parent.iterdir() if p.name.startswith(prefix) and p.is_dir()]
    whole = [p for p in left if (p / FILE_NAME).is_file() and not damage(p)]
    if whole and not output.exists():
        whole[0].rename(output)
        log.warning("An export that ended before its last step is finished: %s.", output)
    for path in left:
        if path.exists():
            shutil.rmtree(path)
            log.info("%s is removed: an export that ended left it half-written.", path)


def settle(output: Path) -> None:
    """Finish or undo what a killed export has left, unless it is not ended or cannot be written."""
    ours = (f".{output.name}.tmp-", f".{output.name}.lock")
    with suppress(OSError, OutputError):
        if any(path.name.startswith(ours) for path in output.parent.iterdir()):
            with _locked(output):
                recover(output)


def check_place(output: Path) -> None:
    """Refuse what cannot become a dataset's folder, before an hour has been spent for it.

    Raises:
        OutputError: The place is taken by something that is not a dataset.
        WriteError: Nothing can be written there.
    """
    atomic.check_place(output)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file. Name a folder for the dataset.")
    if output.is_dir() and any(output.iterdir()) and not is_dataset(output):
        raise OutputError(
            f"{output} holds files and is not a dataset of an earlier export. Name a new or an "
            "empty folder, so that nothing of yours is moved."
        )


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    path = output.parent / f".{output.name}.lock"
    with path.open("a+b") as file:
        try:
            _lock(file)
            # A file that its owner has removed meanwhile locks nothing.
            if os.name != "nt" and os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise OSError("the lock has just been released")
        except OSError as error:
            raise OutputError(
                f"Another export to {output} is running. Wait for it, or choose another place."
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _lock(file: IO[bytes]) -> None:
    """Lock an open file until it is closed or the process ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
