"""What lies behind an address: a list of objects, each with what tells its states apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from ..naming import portable
from .addresses import checked, last_name, shown, suffix_of
from .cache import key_of
from .opening import StoreMissingError, filesystem, patiently

_MARKS = (
    "ETag", "etag", "md5Hash", "md5", "crc32c", "blob_id", "oid", "checksum", "Content-MD5",
    "Last-Modified",
)  # fmt: skip
_DATES = ("LastModified", "last_modified", "mtime", "updated", "created", "Last-Modified")
_MD5 = re.compile(r"[0-9a-f]{32}")
_BADLY_NAMED = re.compile(r'[\x00-\x1f<>:"\\|?*]')
_LONGEST = 255
_UNDATED, _LAST = 1_000_000_000, 1 << 32
"""What stands for the date of an object without one, and the first that a file may not have."""
_TICK, _TICKS = 1000, 1_000_000


@dataclass(frozen=True)
class RemoteFile:
    """One object of a store, as its list says: all that another machine needs to open it.

    Attributes:
        root: The address that was listed; it may hold a signature and is not shown.
        path: The object's, in the store's file system.
        place: Where its copy lies, below the folder of mirrored objects.
        size: In bytes; ``None`` where the store does not say.
        mark: What tells its states apart: its ETag, checksum or date; empty without any.
        date: When it was written, in seconds since 1970; ``None`` where the store does not say.
    """

    root: str = field(repr=False)
    path: str = field(repr=False)
    place: str
    size: int | None = None
    mark: str = ""
    date: float | None = None

    @property
    def name(self) -> str:
        """Its name below what was listed, with ``/``."""
        return self.place.split("/", 2)[-1]

    @property
    def md5(self) -> str:
        """Its MD5, where its mark has the form of one; of encrypted objects it is another's."""
        found = _MD5.fullmatch(self.mark.strip('"').lower())
        return found[0] if found else ""

    @property
    def stamp(self) -> int:
        """The time of change that its copy gets, in nanoseconds.

        Seconds are the object's own date; the microseconds stand for its mark. With its size that
        tells a copy that is current from one that is not, in any process and after any kill.
        """
        told = hashlib.sha256(f"{self.mark}\n{self.size}".encode()).digest()
        dated = self.date is not None and 0 <= self.date < _LAST
        seconds = int(self.date or 0) if dated else _UNDATED
        return seconds * 10**9 + int.from_bytes(told[:8], "big") % _TICKS * _TICK

    def is_current(self, copy: Path) -> bool:
        """Whether a file is a copy of the object as it was listed."""
        if self.size is None and not self.mark:
            return False
        try:
            status = copy.stat()
        except OSError:
            return False
        return status.st_mtime_ns == self.stamp and self.size in (None, status.st_size)


@dataclass(frozen=True)
class Objects:
    """The objects behind an address.

    Attributes:
        address: As it was given.
        files: They, in the order of their names.
        single: Whether the address names one object and no folder.
        unnamed: Names that no file can have, or that lead out of the folder.
        hidden: How many objects begin with a dot, or lie in a folder that does.
    """

    address: str
    files: tuple[RemoteFile, ...]
    single: bool
    unnamed: tuple[str, ...]
    hidden: tuple[RemoteFile, ...] = ()

    @property
    def place(self) -> str:
        """Where their copies lie, below the folder of mirrored objects."""
        return f"{key_of(self.address)}/{folder_name(self.address)}"


def folder_name(address: str) -> str:
    """Return what the copy of an address is called: as its last part is, where a file may be."""
    return portable(last_name(address)[-_LONGEST:].lstrip(".") or "store")


def list_objects(address: str) -> Objects:
    """List what lies behind an address.

    Args:
        address: Of a folder with all below it, or of one object.

    Raises:
        AddressError: The address cannot be used.
        StoreError: The store refuses, does not answer, or has nothing there.
    """
    plain = checked(address)
    system, path = filesystem(plain)
    system.invalidate_cache()

    def found() -> Mapping[str, Mapping[str, Any]]:
        if suffix_of(plain):  # a page of the web would be read to the end to be listed
            with suppress(FileNotFoundError):
                info = system.info(path)
                if info.get("type") == "file":
                    return {path: info}
        listed = system.find(path, detail=True)
        if not listed:  # stores differ in whether what is not there is an error
            system.invalidate_cache()
            info = system.info(path)
            listed = {path: info} if info.get("type") == "file" else {}
        return dict(listed)

    entries = patiently(found, plain)
    if not entries:
        raise StoreMissingError(plain, "nothing lies below that")
    start = path.rstrip("/")
    root = f"{key_of(plain)}/{folder_name(plain)}"
    if len(entries) == 1 and next(iter(entries)).rstrip("/") == start:
        info = next(iter(entries.values()))
        if info.get("size") is None or not _mark(info):  # a page's list says less than its head
            info = patiently(lambda: system.info(path), plain)
        return Objects(plain, (remote_file(plain, start, root, info),), True, ())
    files: dict[str, RemoteFile] = {}
    unnamed, hidden = [], []
    for name, info in sorted(entries.items()):
        below = name[len(start) :].lstrip("/")
        if not below or name.endswith("/") or info.get("type") == "directory":
            continue  # a folder's own mark, as consoles make them
        parts = below.split("/")
        if any(part.startswith(".") and part not in (".", "..") for part in parts):
            hidden.append(remote_file(plain, name, f"{root}/{below}", info))
        elif not _may_be_a_file(parts):
            unnamed.append(shown(below))
        else:
            files[below] = remote_file(plain, name, f"{root}/{below}", info)
    folders = {str(above) for name in files for above in PurePosixPath(name).parents}
    unnamed += sorted(name for name in files if name in folders)  # a file cannot be a folder too
    kept = tuple(one for name, one in files.items() if name not in folders)
    return Objects(plain, kept, False, tuple(unnamed), tuple(hidden))


def remote_file(root: str, path: str, place: str, info: Mapping[str, Any]) -> RemoteFile:
    """Return an object from what fsspec says of it; arguments as of :class:`RemoteFile`."""
    size = info.get("size")
    return RemoteFile(root, path, place, None if size is None else int(size), _mark(info),
                      _date(info))  # fmt: skip


def _mark(info: Mapping[str, Any]) -> str:
    lfs = info.get("lfs")
    if lfs is not None:
        return str(getattr(lfs, "sha256", None) or lfs)
    for key in _MARKS:
        if info.get(key):
            return str(info[key]).strip('"')
    date = next((info[key] for key in _DATES if info.get(key)), "")
    return str(date)


def _date(info: Mapping[str, Any]) -> float | None:
    for key in _DATES:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _may_be_a_file(parts: list[str]) -> bool:
    """Whether parts of a name are those of a file below a folder, on any system."""
    return not any(
        part in ("", ".", "..")
        or len(part.encode("utf-8", "replace")) > _LONGEST
        or _BADLY_NAMED.search(part)
        for part in parts
    )
