"""Put a whole folder in the place of another, keeping the old one as a numbered version.

While a dataset ``NAME`` is written it is ``.NAME.tmp-XXXX`` beside its place, and its list of
checksums is its last file: a folder with the list is whole. Then, with two renames,

1. ``NAME`` becomes ``NAME.versions/v0001`` (the next free number), and
2. ``.NAME.tmp-XXXX`` becomes ``NAME``.

A kill before (1) leaves the old dataset in its place, and a kill between (1) and (2) leaves none:
the next export finishes step (2) first. Whatever else is left over it removes. Nothing under
``NAME`` is ever half a dataset. A lock, which the system releases when the process ends however
it ends, keeps two exports to one place apart.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import CuratorError
from .checksums import FILE_NAME, exported_checksums, read_checksums

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


def versions_folder(output: Path) -> Path:
    """Return where earlier versions of a dataset are kept."""
    return output.parent / f"{output.name}.versions"


def versions(output: Path) -> list[Path]:
    """Return the earlier versions of a dataset, the oldest first."""
    folder = versions_folder(output)
    if not folder.is_dir():
        return []
    numbered = [p for p in folder.iterdir() if re.fullmatch(r"v\d{4,}", p.name)]
    return sorted(numbered, key=lambda path: int(path.name[1:]))


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
        _check(output)
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


def publish(folder: Path, output: Path) -> Path | None:
    """Rename a whole ``folder`` to ``output``.

    Returns:
        Where the previous version is now, or ``None`` when there was none or when it is equal,
        file by file: then it stays.
    """
    if not output.is_dir() or not any(output.iterdir()):
        with suppress(FileNotFoundError):
            output.rmdir()  # an empty folder; Windows does not rename onto one
        folder.rename(output)
        return None
    if read_checksums(folder) == exported_checksums(output):
        return None
    kept = versions_folder(output)
    kept.mkdir(exist_ok=True)
    earlier = versions(output)
    number = int(earlier[-1].name[1:]) + 1 if earlier else 1
    archived = kept / f"v{number:04d}"
    output.rename(archived)
    folder.rename(output)
    return archived


def recover(output: Path) -> None:
    """Finish or undo what a killed export has left."""
    prefix = f".{output.name}.tmp-"
    left = [p for p in output.parent.iterdir() if p.name.startswith(prefix) and p.is_dir()]
    whole = [p for p in left if (p / FILE_NAME).is_file()]
    if whole and not output.exists():
        whole[0].rename(output)
    for path in left:
        if path.exists():
            shutil.rmtree(path)


def _check(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file. Name a folder for the dataset.")
    if output.is_dir() and any(output.iterdir()) and not (output / FILE_NAME).is_file():
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
