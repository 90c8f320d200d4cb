"""Where what goes to an address is made: a folder here, which is uploaded when it is whole."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import atomic
from ..plain_files import plain_bytes
from ..progress import Progress, silent
from ..reading.kinds import CAPTION_SUFFIXES
from ..reading.own import CHECKSUMS_FILE, VERSIONS_SUFFIX, is_dataset
from .addresses import checked, shown
from .cache import WAITING, Cache, home_of, use
from .listing import folder_name, list_objects
from .mirror import Mirrored, StoreUnfinishedError, mirror
from .uploads import (
    Uploaded,
    UploadError,
    check_place,
    remote_list,
    remove_files,
    upload_dataset,
    upload_files,
    upload_whole,
)

Kind = Literal["dataset", "folder", "file"]
INDEX_FILE = "index.json"
_WORK = ".work"
_SENT = "sent"


@dataclass(frozen=True)
class Staged:
    """What will be at an address.

    Attributes:
        address: The address.
        path: The folder, or the file, to be made here.
        kind: ``dataset``, ``folder`` (of shards) or ``file`` (with what goes with it).
    """

    address: str
    path: Path
    kind: Kind

    def upload(self, progress: Progress = silent) -> Uploaded:
        """Put what was made at its address.

        Raises:
            StoreError: The store refuses or does not answer; what was made stays here, and the
                next upload goes on with it.
        """
        if self.kind == "folder":
            done = upload_whole(self.path, self.address, INDEX_FILE, progress)
        elif self.kind == "dataset":
            done = upload_dataset(self.path, self.address, progress)
            _note_sent(self.path)
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
    address: str, kind: Kind, *, cache: Cache | None = None, progress: Progress = silent
) -> Staged:
    """Return where something is made that goes to an address.

    Of a dataset the version there is got first, so that the new one is its successor as it would
    be in a folder. What an ended process has made and not uploaded is gone on with.

    Args:
        address: Where it goes.
        kind: What it is, as of :class:`Staged`.
        cache: Where copies lie; that of the environment unless given.
        progress: Watches.

    Raises:
        UploadError: Something else lies there.
        StoreUnfinishedError: Another machine's upload there is not at its end.
        StoreError: The store refuses or does not answer.
    """
    plain, place = checked(address), cache or Cache.usual()
    home = use(plain, place, "output")
    staged = Staged(plain, home / folder_name(plain), kind)
    check_place(_above(plain) if kind == "file" else plain, dataset=kind == "dataset")
    if kind == "folder":
        shutil.rmtree(staged.path, ignore_errors=True)
    if kind == "dataset":
        _follow(staged, place, progress)
    (home / WAITING).touch()
    return staged


def begin_captions(address: str, progress: Progress = silent) -> Mirrored:
    """Return the copy of a folder whose captions are about to be written.

    What an ended process has written and not uploaded is uploaded first.

    Args:
        address: Of the folder.
        progress: Watches.

    Raises:
        StoreError: The store refuses, does not answer, or has nothing there.
    """
    cache, plain = Cache.usual(), checked(address)
    waiting = home_of(plain, cache) / WAITING
    if waiting.exists():
        found = list_objects(plain)
        upload_captions(
            Mirrored(shown(plain), cache.folder / found.place, found.files, root=plain),
            progress,
            remove=False,  # what is not here may have come there since
        )
    copy = mirror(plain, whole=True, cache=cache, progress=progress)
    waiting.touch()
    return copy


def upload_captions(
    copy: Mirrored, progress: Progress = silent, *, remove: bool = True
) -> Uploaded:
    """Put captions that were written in the copy of a folder back where the folder is.

    A dataset of this program becomes the next version there, as it does here.

    Args:
        copy: The folder's copy, as it was before.
        progress: Watches.
        remove: Whether captions that are no longer in the copy are removed there.

    Raises:
        StoreError: The store refuses or does not answer.
    """
    if is_dataset(copy.path):
        done = upload_dataset(copy.path, copy.root, progress)
    else:
        done = _upload_texts(copy, progress, remove)
    (copy.path.parent / WAITING).unlink(missing_ok=True)
    return done


def end_captions(copy: Mirrored) -> None:
    """Let the copy of a folder be read again, where nothing in it was written.

    Args:
        copy: The folder's copy, as it was before.
    """
    mark = next((one for one in copy.files if one.name == CHECKSUMS_FILE), None)
    is_same = mark is None or mark.is_current(copy.path / mark.name)
    if is_same and not (_written(copy) or _gone(copy)):
        (copy.path.parent / WAITING).unlink(missing_ok=True)


def _gone(copy: Mirrored) -> list[str]:
    """Return the captions that are no longer in a copy."""
    return [
        one.name
        for one in copy.files
        if one.name.lower().endswith(CAPTION_SUFFIXES) and not (copy.path / one.name).exists()
    ]


def _written(copy: Mirrored) -> dict[str, Path]:
    """Return the captions in a copy that are not as they are there, by their names."""
    known = {copy.path / one.name: one for one in copy.files}
    return {
        path.relative_to(copy.path).as_posix(): path
        for suffix in CAPTION_SUFFIXES
        for path in sorted(copy.path.rglob(f"*{suffix}"))
        if path not in known or (path.stat().st_size and not known[path].is_current(path))
    }


def _upload_texts(copy: Mirrored, progress: Progress, remove: bool) -> Uploaded:
    gone, files = _gone(copy), _written(copy)
    if remove and gone:
        remove_files(gone, copy.root)
    if not files:
        return Uploaded(copy.address, 0, 0, 0)
    return upload_files(files, copy.root, progress=progress)


def _follow(staged: Staged, cache: Cache, progress: Progress) -> None:
    """Let the folder hold the version that is at the address, unless it waits for its upload."""
    here = _read(staged.path / CHECKSUMS_FILE)
    unsent = here is not None and here != _read(staged.path.parent / _SENT)
    try:
        there = remote_list(staged.address)
    except StoreUnfinishedError:
        if unsent:
            return
        raise
    if unsent or here == there:
        return
    for folder in (staged.path, staged.path.with_name(staged.path.name + VERSIONS_SUFFIX)):
        shutil.rmtree(folder, ignore_errors=True)
    if there is None:
        return
    copy = mirror(staged.address, whole=True, cache=cache, progress=progress)
    with atomic.filling(staged.path) as making:  # half of it would be taken for what was made here
        shutil.copytree(copy.path, making, dirs_exist_ok=True, copy_function=_link)
    _note_sent(staged.path)


def _note_sent(dataset: Path) -> None:
    """Note that a dataset is at its address, by its list of checksums."""
    atomic.write_bytes(dataset.parent / _SENT, plain_bytes(dataset / CHECKSUMS_FILE))


def _read(path: Path) -> bytes | None:
    return plain_bytes(path) if path.is_file() else None


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
