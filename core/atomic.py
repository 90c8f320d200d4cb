"""Files that are whole or absent: written beside their name, then renamed.

A file's content is on the disk before its name is, and the name before whoever wrote it goes on:
after a power cut, too, a file is whole or absent. The environment variable ``CURATOR_FSYNC=0``
leaves that to the system, as a disk without power cuts allows.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .counts import how_many, worded
from .errors import WriteError

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

TEMPORARY_SUFFIX = ".tmp"
LEFT_BEHIND = 3600.0
"""Seconds after which nobody writes a temporary file any more, where there are no locks."""

log = logging.getLogger(__name__)

_BYTES = 8
_FILLING = ".unpacking-"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_swept: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` on success.

    The temporary name is hidden (starts with a dot) and ends with ``.tmp``, so that a reader of
    the folder never takes it for a result. On an exception it is removed and ``path`` is as it was.
    What a killed process has left in the folder is removed before a process first writes there.

    Raises:
        WriteError: The folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(_BYTES)}{TEMPORARY_SUFFIX}"
    try:
        make_folders(path.parent)
        if path.parent not in _swept:
            _swept.add(path.parent)
            sweep(path.parent)
        with _held(temporary):
            try:
                with os_errors(path):
                    yield temporary
                sync(temporary)
                temporary.replace(path)
                sync(path.parent)
            finally:
                with suppress(FileNotFoundError, NotADirectoryError):
                    temporary.unlink()
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error) from error


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder``; rename it to that on success, when all is on the disk.

    Its name is hidden (starts with a dot). On an exception it is removed, and so is, before, what a
    killed process has left of one: whoever fills a folder holds its lock. Where there are no locks,
    those that nobody has touched for an hour.

    Args:
        folder: Is not there. Where another process is faster, what it made stays.

    Raises:
        OSError: It cannot be made.
    """
    home = folder.parent
    make_folders(home)
    for left in home.glob(f"{_FILLING}*"):
        if left.is_dir() and not left.is_symlink() and _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=_FILLING, dir=home))
    with _locked_folder(making):
        try:
            yield making
            sync_tree(making)
            making.rename(folder)
            sync(home)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            if not folder.is_dir():  # another process may have been first
                raise


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Let what a library written in Rust says of the system's errors be the system's errors.

    safetensors, for one, raises errors of its own, which name the system's by its number.

    Args:
        path: What is written.

    Raises:
        OSError: In the place of a library's error.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Make a file and lock it while it is written, so that nobody takes it for one left behind."""
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with _locked(handle):
        yield


@contextmanager
def _locked_folder(path: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    with _locked(os.open(path, os.O_RDONLY)):
        yield


@contextmanager
def _locked(handle: int) -> Iterator[None]:
    try:
        with suppress(OSError):  # some network drives know no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it where they are not there; their names reach the disk."""
    made = []
    while not folder.exists():
        made.append(folder)
        folder = folder.parent
    for new in reversed(made):
        new.mkdir(exist_ok=True)
        sync(new.parent)


def check_place(path: Path) -> None:
    """Refuse a place where nothing can be written, before an hour has been spent for it.

    Args:
        path: A file or folder that is to be written; what is there already is not looked at.

    Raises:
        WriteError: A part of the way to it is no folder, or is one that takes no new names.
    """
    above = path
    try:
        if path.exists():
            return
        while not above.exists() and above != above.parent:
            above = above.parent
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is not a folder", str(path))
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"nothing may be written into {above}", str(path))
    except OSError as error:
        raise WriteError(path, error) from error


def sync(path: Path) -> None:
    """Let a file's content, or a folder's names, reach the disk.

    Args:
        path: The file or folder. What the system cannot do for it (a folder on Windows) is left.
    """
    if os.environ.get("CURATOR_FSYNC") == "0":
        return
    with suppress(PermissionError, IsADirectoryError):
        handle = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network drives know no such thing
                os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: Path) -> None:
    """Let every file below a folder, and every folder's names, reach the disk."""
    if os.environ.get("CURATOR_FSYNC") == "0":
        return
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def sweep(folder: Path) -> int:
    """Remove temporary files that killed processes have left; return how many.

    Only files that :func:`replacing` has named, and none that is still written: whoever writes one
    holds its lock. Where there are no locks, those that nobody has written to for an hour.

    Args:
        folder: Where to look; folders in it are left alone.
    """
    swept = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                is_ours = _is_ours(entry.name) and entry.is_file(follow_symlinks=False)
                if is_ours and _is_left(Path(entry.path)):
                    Path(entry.path).unlink()
                    swept += 1
    if swept:
        log.info(
            "%s that ended processes have left in %s %s removed.",
            how_many(swept, "temporary file"), folder, worded(swept, "is", "are"),
        )  # fmt: skip
    return swept


def _is_left(path: Path) -> bool:
    if fcntl is None:
        return path.stat().st_mtime < time.time() - LEFT_BEHIND
    # Some network drives lock nothing that is not open for writing, and folders never are.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_ours(name: str) -> bool:
    if len(name) != 1 + 2 * _BYTES + len(TEMPORARY_SUFFIX) or not name.startswith("."):
        return False
    middle = name[1 : -len(TEMPORARY_SUFFIX)]
    return name.endswith(TEMPORARY_SUFFIX) and set(middle) <= set("0123456789abcdef")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, line feeds as given) to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_jpeg(path: Path, image: Any, quality: int) -> None:
    """Write a PIL image to ``path`` as JPEG, atomically.

    Pillow gives the system a JPEG in one piece, and takes what was written of it for all of it: on
    a full disk half an image would count as whole. So it is encoded in memory.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    write_bytes(path, buffer.getvalue())


def free_aside(path: Path) -> Path:
    """Return the first free name beside a path for what is damaged and kept: ``NAME.damaged-N``."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return kept
