"""Objects as files: each is downloaded once, checked, and put in its place when it is whole.

A copy has the object's name, so that a folder of copies is read as the folder itself would be, and
a time of change that says which state of the object it is (:attr:`.listing.RemoteFile.stamp`). What
a killed process has downloaded is there for the next.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .. import atomic
from ..counts import how_many, worded
from ..progress import Progress, silent
from ..reading.folders import is_packed_name
from ..reading.kinds import CAPTION_SUFFIXES, is_image_name
from ..reading.own import CHECKSUMS_FILE, RECORD_FILE, is_dataset
from .addresses import checked, shown
from .cache import WAITING, Cache, home_of, in_words, make_room, use
from .listing import Objects, RemoteFile, list_objects
from .opening import StoreError, StoreMissingError, filesystem, patiently

AHEAD = 16
"""How many objects are downloaded at a time."""

UPLOADING = ".character-curator-uploading"
"""In a folder of a store while a dataset is uploaded there: nobody reads half of one."""

_MARKS = (RECORD_FILE, CHECKSUMS_FILE)
_SIDECARS = ("metadata.json", "curated.json", "facts.json", "recipe.toml")
"""What is read beside the images of a folder that is trained on."""
_TRIES = 3
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE}

log = logging.getLogger(__name__)

_origins: dict[str, RemoteFile] = {}
"""The objects that this process has listed, by the paths of their copies."""


class StoreUnfinishedError(StoreError):
    """A dataset is being written at an address, or its writing has ended half-way."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"The dataset at {shown(address)} is not whole: it is being uploaded, or an upload "
            "has ended half-way. Wait, or run the command again that uploads it: it goes on where "
            "it was."
        )


class CaptionsWaitError(StoreError):
    """Captions that were written in the copy of a folder were not uploaded yet."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"Captions of {shown(address)} were written here and are not there yet: their upload "
            "has ended half-way. 'character-curator captions history' of that address uploads "
            "them; then run this again."
        )


class _IncompleteError(OSError):
    """What has arrived is not what was listed."""


class _FromStoreError(Exception):
    """What a store's library raises while a file is written, which is no fault of the disk."""


@dataclass(frozen=True)
class Mirrored:
    """The copy of an address.

    Attributes:
        address: As it may be shown.
        path: What is read in its place: a folder, or a file where it names one object.
        files: Its objects, as they were listed.
        faults: Why an object could not be had, by its name below the folder.
        notes: What is to be said, a sentence each.
        fetched: How many objects were downloaded; all others that were wanted were there.
        size: Bytes that were downloaded.
        root: The address as it was given, which may hold a signature.
    """

    address: str
    path: Path
    files: tuple[RemoteFile, ...]
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fetched: int = 0
    size: int = 0
    root: str = field(default="", repr=False)


def local_file(remote: RemoteFile, cache: Cache | None = None) -> Path:
    """Return the copy of one object, downloaded unless it is there already.

    It depends on nothing but its arguments and the environment, so that any process on any machine
    may call it with a :class:`.listing.RemoteFile` that another has listed.

    Args:
        remote: The object, from :func:`.listing.list_objects`.
        cache: Where copies lie; that of the environment unless given.

    Raises:
        StoreError: The object could not be had, however often it was asked for.
        WriteError: The disk is full, or the folder cannot be written.
    """
    target = (cache or Cache.usual()).folder / remote.place
    if not remote.is_current(target):
        patiently(lambda: _download(remote, target), remote.root)
    return target


def origin_of(copy: Path | str) -> RemoteFile | None:
    """Return the object that a file of this process's cache is a copy of, as it was listed."""
    return _origins.get(str(copy))


def _download(remote: RemoteFile, target: Path) -> None:
    """Put an object in its place, when its size and, where it is told, its MD5 are right."""
    system, _ = filesystem(remote.root)
    before = ""
    for _ in range(_TRIES):
        try:
            with atomic.replacing(target) as temporary:
                with _told_apart():
                    system.get_file(remote.path, str(temporary))
                size = temporary.stat().st_size
                if remote.size not in (None, size):
                    reason = f"{size:,} of {remote.size:,} bytes have arrived"
                    raise _FromStoreError from _IncompleteError(reason)
                digest = _md5(temporary) if remote.md5 else ""
                if digest not in (remote.md5, before):
                    before = digest
                    raise _AgainError
                # What comes the same twice is encrypted in the store: its ETag is no MD5.
                os.utime(temporary, ns=(remote.stamp, remote.stamp))
        except _AgainError:
            continue
        except _FromStoreError as error:
            raise error.__cause__ or error from None
        return
    raise _IncompleteError("what arrives is never what the list says: it is being written")


class _AgainError(Exception):
    """What has arrived has another MD5 than was listed."""


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell what a store raises from what the disk does: both are errors of the system."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise _FromStoreError from error


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def mirror(
    address: str,
    *,
    whole: bool = False,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> Mirrored:
    """Copy what lies behind an address, as far as it is not here yet.

    Of a folder the images and the captions are downloaded, several at a time; whatever else lies
    there is an empty file of its name, so that it is counted. What this program has written below
    the folder (datasets, their versions) is not downloaded. Where there is no image but zip or tar
    files, these are. An object that cannot be had is an empty file too, and its reason is told.

    Args:
        address: Of a folder with all below it, or of one object.
        whole: Of a dataset of this program download everything, and of any other folder what a
            training reads beside images.
        cache: Where copies lie; that of the environment unless given.
        progress: Watches.

    Raises:
        AddressError: The address cannot be used.
        StoreError: The store refuses, does not answer, or has nothing there.
        StoreUnfinishedError: A dataset there is not whole.
        CaptionsWaitError: Captions that were written here are not there yet.
        CacheFullError: It does not fit.
    """
    place = cache or Cache.usual()
    if (home_of(checked(address), place) / WAITING).exists():
        raise CaptionsWaitError(address)
    for _ in range(_TRIES):
        found = list_objects(address)
        if any(one.name == UPLOADING for one in found.hidden):
            raise StoreUnfinishedError(address)
        copied = _copied(found, whole, place, progress)
        _origins.update((str(place.folder / one.place), one) for one in copied.files)
        if not whole or not _has_changed(found):
            return copied
    raise StoreUnfinishedError(address)


def _has_changed(found: Objects) -> bool:
    """Whether another dataset has taken the place of one while that was downloaded."""
    mark = next((one for one in found.files if one.name == CHECKSUMS_FILE), None)
    if mark is None:
        return False
    try:
        now = {one.name: one for one in list_objects(found.address).files}
    except StoreMissingError:
        return True
    return now.get(CHECKSUMS_FILE) != mark


def _copied(found: Objects, whole: bool, cache: Cache, progress: Progress) -> Mirrored:
    use(found.address, cache)
    root = cache.folder / found.place
    wanted: list[RemoteFile] = list(found.files)
    empty: list[RemoteFile] = []
    is_set = whole and any(one.name in _MARKS for one in found.files)
    if not found.single:
        atomic.make_folders(root)
        if not is_set:
            wanted, empty = _divided(found.files, _SIDECARS if whole else (), cache)
    needed = [one for one in wanted if not one.is_current(cache.folder / one.place)]
    swept = make_room(found.address, sum(one.size or 0 for one in needed), cache)
    if not found.single:
        _remove_others(root, {one.place for one in found.files}, cache)
    for one in empty:
        _touch(cache.folder / one.place)
    faults = _fetch(needed, cache, progress)
    if faults and (is_set or len(faults) == len(wanted)):
        raise next(iter(faults.values()))
    for one in needed:
        if one.place in faults:
            (cache.folder / one.place).unlink(missing_ok=True)
            _touch(cache.folder / one.place)
    fetched = [one for one in needed if one.place not in faults]
    size = sum((cache.folder / one.place).stat().st_size for one in fetched)
    return Mirrored(
        shown(found.address),
        root,
        found.files,
        {one.name: str(faults[one.place]) for one in needed if one.place in faults},
        tuple(_notes(found, len(wanted), fetched, size, swept, cache)),
        len(fetched),
        size,
        found.address,
    )


def _notes(
    found: Objects,
    wanted: int,
    fetched: list[RemoteFile],
    size: int,
    swept: list[str],
    cache: Cache,
) -> Iterator[str]:
    name = shown(found.address)
    known = wanted - len(fetched)
    were = worded(known, "was", "were")
    yield (
        f"{name}: {len(fetched):,} of {how_many(wanted, 'object')} downloaded ({in_words(size)})"
        f"{f', {known:,} {were} here' if known else ''}. Copies lie in {cache.folder}, at most "
        f"{in_words(cache.limit)} of them; 'character-curator cache' shows and sweeps them."
    )
    if found.unnamed:
        count, some = len(found.unnamed), ", ".join(repr(one) for one in found.unnamed[:3])
        yield (
            f"{name}: {how_many(count, 'object has a name', 'objects have names')} that "
            f"no file can have, or that {worded(count, 'leads', 'lead')} out of the folder, and "
            f"{worded(count, 'is', 'are')} left out: {some}."
        )
    if swept:
        yield f"To make room the copies of {', '.join(swept)} were swept."


def _divided(
    files: Sequence[RemoteFile], more: Collection[str], cache: Cache
) -> tuple[list[RemoteFile], list[RemoteFile]]:
    """Divide objects into those to be downloaded and those of which the name is enough."""
    marks = [one for one in files if PurePosixPath(one.name).name in _MARKS]
    for one in marks:
        with suppress(StoreError):  # then its folder is any other
            local_file(one, cache)
    folders = {PurePosixPath(one.place).parent for one in marks if "/" in one.name}
    own = {folder for folder in folders if is_dataset(cache.folder / folder)}
    others = [one for one in files if not own.intersection(PurePosixPath(one.place).parents)]
    wanted = {one.place for one in marks}
    wanted |= {one.place for one in others if is_image_name(one.name)}
    if len(wanted) == len(marks):
        wanted |= {one.place for one in others if is_packed_name(one.name)}
    wanted |= {
        one.place for one in others if PurePosixPath(one.name).suffix.lower() in CAPTION_SUFFIXES
    }
    wanted |= {one.place for one in files if one.name in more}
    return (
        [one for one in files if one.place in wanted],
        [one for one in files if one.place not in wanted],
    )


def _remove_others(root: Path, places: Iterable[str], cache: Cache) -> None:
    """Remove copies of what is no longer in the store."""
    known = {cache.folder / place for place in places}
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder) / name
            if path not in known and not name.startswith("."):  # a history of edits; temporary
                path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            Path(folder).rmdir()
    atomic.make_folders(root)


def _touch(path: Path) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _fetch(needed: list[RemoteFile], cache: Cache, progress: Progress) -> dict[str, StoreError]:
    """Download objects, several at a time; return why one could not be had, by its place."""
    if not needed:
        return {}
    faults: dict[str, StoreError] = {}
    progress.start("Downloading", len(needed))
    pool = ThreadPoolExecutor(max_workers=AHEAD)
    try:
        waiting = {pool.submit(local_file, one, cache): one for one in needed}
        for done in as_completed(waiting):
            one = waiting[done]
            try:
                done.result()
            except StoreError as error:
                faults[one.place] = error
                log.warning("%s: %s", one.name, error)
            progress.advance(1, one.name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    progress.finish()
    return faults
