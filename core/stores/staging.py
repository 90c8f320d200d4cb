"""Where what goes to an address is made: a folder here, which is uploaded when it is whole."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..progress import Progress, silent
from ..reading.own import CHECKSUMS_FILE, VERSIONS_SUFFIX
from .addresses import checked, shown
from .cache import WAITING, Cache, use
from .listing import folder_name
from .mirror import StoreUnfinishedError, mirror
from .uploads import Uploaded, UploadError, check_place, remote_list, upload_dataset, upload_files

_WORK = ".work"


@dataclass(frozen=True)
class Staged:
    """What will be at an address.

    Attributes:
        address: The address.
        path: The folder of the dataset, or the file, to be made here.
        dataset: Whether it is a dataset.
    """

    address: str
    path: Path
    dataset: bool

    def upload(self, progress: Progress = silent) -> Uploaded:
        """Put what was made at its address.

        Raises:
            StoreError: The store refuses or does not answer; what was made stays here, and the
                next upload goes on with it.
        """
        if self.dataset:
            done = upload_dataset(self.path, self.address, progress)
        else:
            files = {
                path.relative_to(self.path.parent).as_posix(): path
                for path in sorted(self.path.parent.rglob("*"))
                if path.is_file() and path.name.startswith(self.path.stem) and not _is_work(path)
            }
            done = upload_files(files, _above(self.address), self.path.name, progress)
        (self.path.parent / WAITING).unlink(missing_ok=True)
        return done


def stage(
    address: str, *, dataset: bool, cache: Cache | None = None, progress: Progress = silent
) -> Staged:
    """Return where something is made that goes to an address.

    Of a dataset the version there is got first, so that the new one is its successor as it would
    be in a folder. What an ended process has made and not uploaded is gone on with.

    Args:
        address: Where it goes.
        dataset: Whether it is a dataset, or a file with what goes with it.
        cache: Where copies lie; that of the environment unless given.
        progress: Watches.

    Raises:
        UploadError: Something else lies there.
        StoreUnfinishedError: Another machine's upload there is not at its end.
        StoreError: The store refuses or does not answer.
    """
    plain, place = checked(address), cache or Cache.usual()
    home = use(plain, place, "output")
    staged = Staged(plain, home / folder_name(plain), dataset)
    check_place(plain if dataset else _above(plain), dataset=dataset)
    if dataset:
        _follow(staged, place, progress)
    (home / WAITING).touch()
    return staged


def _follow(staged: Staged, cache: Cache, progress: Progress) -> None:
    """Let the folder hold the version that is at the address, unless it waits for its upload."""
    own = staged.path / CHECKSUMS_FILE
    waits = (staged.path.parent / WAITING).exists()
    try:
        there = remote_list(staged.address)
    except StoreUnfinishedError:
        if waits and own.is_file():
            return
        raise
    here = own.read_bytes() if own.is_file() else None
    if here == there or (waits and here is not None):
        return
    for folder in (staged.path, staged.path.with_name(staged.path.name + VERSIONS_SUFFIX)):
        shutil.rmtree(folder, ignore_errors=True)
    if there is None:
        return
    copy = mirror(staged.address, whole=True, cache=cache, progress=progress)
    shutil.copytree(copy.path, staged.path, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _above(address: str) -> str:
    above, _, name = address.rpartition("/")
    if not name or above.endswith("/"):
        raise UploadError(f"{shown(address)} names a bucket. Write the file's name behind it.")
    return above


def _is_work(path: Path) -> bool:
    return any(part.endswith(_WORK) for part in path.parts)
