"""Files into a store: a dataset appears there whole or not at all, and nothing is taken on trust.

A dataset ``NAME`` takes an earlier one's place in this order:

1. the objects there are copied, within the store, to ``NAME.versions/v0001`` (its number), the list
   of checksums last;
2. an object of the name :data:`.mirror.UPLOADING` says that nobody shall read, and the list of
   checksums is removed: a folder without it is no dataset;
3. files are uploaded, several at a time, each compared with what the store then has; what is there
   already stays, and what the new dataset has not is removed;
4. ``version.json`` and, last of its files, the list of checksums are uploaded, and the object of
   (2) is removed.

A process that is killed anywhere is gone on with by the next upload of the same dataset.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..counts import how_many, worded
from ..hashing import content_hash
from ..json_text import parse
from ..progress import Progress, silent
from ..reading.own import CHECKSUMS_FILE, RECORD_FILE, VERSIONS_SUFFIX
from .addresses import checked, shown
from .listing import Objects, RemoteFile, list_objects, remote_file
from .mirror import AHEAD, UPLOADING, StoreUnfinishedError
from .opening import StoreError, StoreMissingError, filesystem, patiently

_LAST = (RECORD_FILE, CHECKSUMS_FILE)
_PROBE = ".character-curator-probe"
_BLOCK = 1 << 22
_NO_WRITING = frozenset({"http", "https"})


class UploadError(StoreError):
    """Something cannot be put at an address, or is not there as it was sent."""


@dataclass(frozen=True)
class Uploaded:
    """What an upload did.

    Attributes:
        address: Where to, as it may be shown.
        files: How many files are there now.
        sent: How many of them were sent; the others were there already.
        size: Bytes that were sent.
        previous: Where the version before is kept; empty if there was none.
    """

    address: str
    files: int
    sent: int
    size: int
    previous: str = ""

    @property
    def in_words(self) -> str:
        """What is to be said of it."""
        kept = f" The version before is kept in {self.previous}." if self.previous else ""
        there = self.files - self.sent
        were = worded(there, "was", "were")
        return (
            f"Uploaded to {self.address}: {how_many(self.files, 'file')}, {self.sent:,} of them "
            f"sent{f', {there:,} {were} there' if there else ''}; every one was compared.{kept}"
        )


@dataclass(frozen=True)
class _Target:
    """A folder of a store, and what lies there."""

    address: str
    system: Any
    path: str
    there: Mapping[str, RemoteFile]

    def at(self, name: str) -> str:
        return f"{self.path}/{name}"


def upload_dataset(folder: Path, address: str, progress: Progress = silent) -> Uploaded:
    """Put a dataset at an address, where it appears whole or not at all.

    Args:
        folder: With its list of checksums.
        address: Of the folder that it becomes.
        progress: Watches.

    Raises:
        UploadError: Something else lies there, or what arrives is not what was sent.
        StoreError: The store refuses or does not answer.
    """
    target = _target(address)
    files = _files_below(folder)
    _check_dataset(target)
    if CHECKSUMS_FILE not in files:
        raise UploadError(f"{folder} has no {CHECKSUMS_FILE}: it is no dataset that is whole.")
    if UPLOADING not in target.there and _all_there(target, files):
        return Uploaded(shown(target.address), len(files), 0, 0)
    previous = "" if UPLOADING in target.there else _keep_version(target)
    _send_text(target, UPLOADING, str(int(time.time())))
    _remove(target, [CHECKSUMS_FILE])
    sent = _send_in_order(target, files, _LAST, progress)
    return Uploaded(shown(target.address), len(files), len(sent), sum(sent), previous)


def upload_whole(folder: Path, address: str, last: str, progress: Progress = silent) -> Uploaded:
    """Put a folder at an address where nothing lies, and where it appears whole or not at all.

    Args:
        folder: The folder.
        address: Where it goes; the same may lie there already, or a part of it.
        last: The file that says that all are there.
        progress: Watches.

    Raises:
        UploadError: Something else lies there, or what arrives is not what was sent.
        StoreError: The store refuses or does not answer.
    """
    target = _target(address)
    files = _files_below(folder)
    if target.there and UPLOADING not in target.there:
        if target.there.keys() == files.keys() and _all_there(target, files):
            return Uploaded(shown(target.address), len(files), 0, 0)
        raise _taken(target)
    _send_text(target, UPLOADING, str(int(time.time())))
    sent = _send_in_order(target, files, (last,), progress)
    return Uploaded(shown(target.address), len(files), len(sent), sum(sent))


def _send_in_order(
    target: _Target, files: Mapping[str, Path], last: Sequence[str], progress: Progress
) -> list[int]:
    """Upload all, remove what else is there, and then say that it is whole."""
    sent = _send(target, {name: path for name, path in files.items() if name not in last}, progress)
    _remove(target, sorted(target.there.keys() - files.keys() - {UPLOADING, CHECKSUMS_FILE}))
    for name in last:
        if name in files:
            sent += _send(target, {name: files[name]}, silent)
    _remove(target, [UPLOADING], always=True)
    return sent


def upload_files(
    files: Mapping[str, Path], address: str, last: str = "", progress: Progress = silent
) -> Uploaded:
    """Put files below an address, beside whatever lies there.

    Args:
        files: By their names there.
        address: Of the folder.
        last: The one whose presence says that all are there.
        progress: Watches.

    Raises:
        UploadError: What arrives is not what was sent.
        StoreError: The store refuses or does not answer.
    """
    target = _target(address)
    sent = _send(target, {k: v for k, v in files.items() if k != last}, progress)
    if last:
        sent += _send(target, {last: files[last]}, progress)
    return Uploaded(shown(target.address), len(files), len(sent), sum(sent))


def remove_files(names: Sequence[str], address: str) -> None:
    """Remove files below an address.

    Args:
        names: Their names there.
        address: Of the folder.

    Raises:
        StoreError: The store refuses or does not answer.
    """
    _remove(_target(address), names)


def check_place(address: str, *, dataset: bool) -> None:
    """See to it that something can be written at an address, before it is made: write and remove.

    Args:
        address: Of a folder.
        dataset: Whether a dataset is to take its place.

    Raises:
        UploadError: Something else lies there.
        StoreError: The store refuses or does not answer.
    """
    target = _target(address)
    if dataset:
        _check_dataset(target)
    _send_text(target, _PROBE, "")
    _remove(target, [_PROBE], always=True)


def _check_dataset(target: _Target) -> None:
    marks = (CHECKSUMS_FILE, RECORD_FILE, UPLOADING)
    if target.there.keys() - {_PROBE} and not any(name in target.there for name in marks):
        raise _taken(target)


def _taken(target: _Target) -> UploadError:
    return UploadError(
        f"{shown(target.address)} holds objects and no dataset of this program that could be "
        "followed. Name a new folder, so that nothing of yours is replaced."
    )


def remote_list(address: str) -> bytes | None:
    """Return the list of checksums of the dataset at an address; ``None`` without one.

    Raises:
        StoreUnfinishedError: The dataset there is not whole.
        StoreError: The store refuses or does not answer.
    """
    target = _target(address)
    if UPLOADING in target.there:
        raise StoreUnfinishedError(address)
    if CHECKSUMS_FILE not in target.there:
        return None
    data: bytes = patiently(lambda: target.system.cat_file(target.at(CHECKSUMS_FILE)), address)
    return data


def _target(address: str) -> _Target:
    plain = checked(address)
    if plain.split("://")[0].lower() in _NO_WRITING:
        raise UploadError(f"Nothing can be written to {shown(plain)}. Name a bucket, as s3://….")
    system, path = filesystem(plain)
    try:
        found = list_objects(plain)
    except StoreMissingError:
        found = Objects(plain, (), False, ())
    if found.single:
        raise UploadError(f"{shown(plain)} is an object. Name a folder.")
    listed = {one.name: one for one in (*found.files, *found.hidden)}
    return _Target(plain, system, path.rstrip("/"), listed)


def _files_below(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names.

    Raises:
        UploadError: One is a link to what lies elsewhere, which may be anything of the user's.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    own = folder.resolve()
    for path in files.values():
        if path.is_symlink() and not path.resolve().is_relative_to(own):
            raise UploadError(
                f"{path} is a link out of the folder, and is not followed. Nothing was uploaded. "
                "Put a copy in its place, or take it away."
            )
    return files


def _all_there(target: _Target, files: Mapping[str, Path]) -> bool:
    """Whether a target has these files, as they are."""
    if not files.keys() <= target.there.keys():
        return False
    pairs = [(target.there[name], path) for name, path in files.items()]
    return all(_is_same(target.system, one, path) for one, path in pairs)


def _keep_version(target: _Target) -> str:
    """Copy the dataset that is there to its versions; return where to, empty without one."""
    if CHECKSUMS_FILE not in target.there:
        return ""
    versions = f"{target.path}{VERSIONS_SUFFIX}"
    try:
        above = list_objects(f"{target.address}{VERSIONS_SUFFIX}").files
    except StoreMissingError:
        above = ()
    whole = {one.name.split("/")[0]: one for one in above if one.name.endswith(CHECKSUMS_FILE)}
    number = _number(target)
    mark = target.there[CHECKSUMS_FILE]
    while f"v{number:04d}" in whole:
        kept = whole[f"v{number:04d}"]
        if (kept.size, kept.md5) == (mark.size, mark.md5) and mark.md5:
            return f"{shown(target.address)}{VERSIONS_SUFFIX}/v{number:04d}"
        number += 1
    place = f"v{number:04d}"
    names = sorted(target.there, key=lambda name: (name == CHECKSUMS_FILE, name))

    def copy(name: str) -> None:
        patiently(
            lambda: target.system.cp_file(target.at(name), f"{versions}/{place}/{name}"),
            target.address,
        )

    with ThreadPoolExecutor(max_workers=AHEAD) as pool:
        list(pool.map(copy, names[:-1]))
    copy(names[-1])
    return f"{shown(target.address)}{VERSIONS_SUFFIX}/{place}"


def _number(target: _Target) -> int:
    if RECORD_FILE not in target.there:
        return 1
    data = patiently(lambda: target.system.cat_file(target.at(RECORD_FILE)), target.address)
    try:
        number = parse(data.decode("utf-8"))["number"]
        return number if isinstance(number, int) and 0 < number < 10**6 else 1
    except (ValueError, KeyError, TypeError):
        return 1


def _send(target: _Target, files: Mapping[str, Path], progress: Progress) -> list[int]:
    """Upload what is not there as it is; return the sizes of what was sent."""
    progress.start("Uploading", len(files))

    def send(name: str) -> int | None:
        return _send_one(target, name, files[name])

    sent = []
    pool = ThreadPoolExecutor(max_workers=AHEAD)
    try:
        for name, size in zip(files, pool.map(send, files), strict=True):
            if size is not None:
                sent.append(size)
            progress.advance(1, name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    progress.finish()
    return sent


def _send_one(target: _Target, name: str, path: Path) -> int | None:
    known = target.there.get(name)
    if known is not None and _is_same(target.system, known, path):
        return None

    def send() -> None:
        target.system.put_file(str(path), target.at(name))
        target.system.invalidate_cache()
        info = target.system.info(target.at(name))
        if not _is_same(
            target.system, remote_file(target.address, target.at(name), f"x/x/{name}", info), path
        ):
            raise OSError(f"{name} has arrived with other bytes than were sent")

    patiently(send, target.address)
    return path.stat().st_size


def _is_same(system: Any, one: RemoteFile, path: Path) -> bool:
    """Whether an object has the bytes of a file: by its MD5 where that is told, else read back."""
    if one.size is not None and one.size != path.stat().st_size:
        return False
    if one.md5 and one.md5 == _digest_of(_blocks(path), hashlib.md5(usedforsecurity=False)):
        return True

    def read_back() -> str:
        with system.open(one.path, "rb", block_size=_BLOCK) as file:
            return _digest_of(iter(lambda: file.read(_BLOCK), b""), hashlib.sha256())

    return patiently(read_back, one.root) == content_hash(path)


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _digest_of(blocks: Iterable[bytes], digest: Any) -> str:
    for block in blocks:
        digest.update(block)
    return str(digest.hexdigest())


def _send_text(target: _Target, name: str, text: str) -> None:
    patiently(lambda: target.system.pipe_file(target.at(name), text.encode()), target.address)


def _remove(target: _Target, names: Sequence[str], *, always: bool = False) -> None:
    for name in names:
        if always or name in target.there:
            patiently(lambda name=name: target.system.rm_file(target.at(name)), target.address)  # type: ignore[misc]
