"""The folder that objects are mirrored into: where it is, how large it may be, what goes first.

Every address has a folder in it of its own, which is the unit of sweeping: the one that was not
used for longest goes first, and none that a process uses. What waits for its upload never goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import CuratorError
from ..json_text import parse
from ..plain_files import plain_text
from .addresses import shown

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

FOLDER_VARIABLE = "CURATOR_CACHE"
LIMIT_VARIABLE = "CURATOR_CACHE_LIMIT"
USUAL_LIMIT = "50GB"
RECORD = "store.json"
WAITING = "waiting"
"""Beside what is to be uploaded, until it is."""

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i)?)?b?\s*", re.I)
_MOST = float(1 << 63)
"""Bytes that no disk has."""
_FREE = 1 << 30
"""Bytes that are left free on the disk."""
_DIGITS = 16
_KEY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")
_held: dict[Path, int] = {}


class SizeError(CuratorError):
    """A size cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(f"'{text}' is no size. Write a number and a unit, as 500MB, 50GB or 2TB.")


class CacheFullError(CuratorError):
    """What is to be read is larger than the folder of mirrored objects may be."""

    def __init__(self, address: str, needed: int, room: int, folder: Path) -> None:
        super().__init__(
            f"{shown(address)} needs {in_words(needed)} here, and {folder} has room for "
            f"{in_words(room)}. Allow more with --cache-limit (or {LIMIT_VARIABLE}), put the "
            f"folder on a larger disk with {FOLDER_VARIABLE}, or name a part of it."
        )


def bytes_of(text: str) -> int:
    """Return a size in bytes: ``50GB`` is 50 000 000 000, ``1GiB`` is 1 073 741 824.

    Raises:
        SizeError: It is none, nothing, or more than any disk has.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise SizeError(text)
    unit = "kmgt".find((found[2] or "").lower()) + 1 if found[2] else 0
    size = float(found[1]) * (1024 if found[3] else 1000) ** unit
    if not 1 <= size < _MOST:
        raise SizeError(text)
    return int(size)


def in_words(size: int) -> str:
    """Return bytes as a person says them: ``1.5 GB``."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


@dataclass(frozen=True)
class Cache:
    """Where objects are mirrored, and how many bytes of them.

    Attributes:
        folder: The folder.
        limit: The most bytes.
    """

    folder: Path
    limit: int

    @staticmethod
    def usual() -> Cache:
        """Return that of the environment: ``CURATOR_CACHE`` and ``CURATOR_CACHE_LIMIT``.

        Raises:
            SizeError: The limit is no size.
        """
        named = os.environ.get(FOLDER_VARIABLE)
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "character-curator" / "stores"
        folder = Path(named or base).expanduser().absolute()
        return Cache(folder, bytes_of(os.environ.get(LIMIT_VARIABLE) or USUAL_LIMIT))


@dataclass(frozen=True)
class Kept:
    """What the cache keeps of one address.

    Attributes:
        folder: Its folder.
        address: As it may be shown.
        size: In bytes on the disk.
        used: When it was last used, in seconds since 1970.
        waits: Whether it holds what is to be uploaded yet.
    """

    folder: Path
    address: str
    size: int
    used: float
    waits: bool


def home_of(address: str, cache: Cache) -> Path:
    """Return the folder of an address in the cache; it need not exist."""
    return cache.folder / key_of(address)


def key_of(address: str) -> str:
    """Return what the folder of an address is called: the beginning of its SHA-256."""
    named = address.rstrip("/").encode("utf-8", "surrogatepass")
    return hashlib.sha256(named).hexdigest()[:_DIGITS]


def use(address: str, cache: Cache, purpose: str = "") -> Path:
    """Make the folder of an address, note that it is used, and keep it until the process ends.

    Args:
        address: The address.
        cache: Where.
        purpose: Another folder of the same address for each.
    """
    home = home_of(f"{address.rstrip('/')}\n{purpose}" if purpose else address, cache)
    atomic.make_folders(home)
    record = home / RECORD
    if _address_in(record) is not None:
        with suppress(OSError):
            os.utime(record)
    else:
        atomic.write_text(record, json.dumps({"address": shown(address)}) + "\n")
    if fcntl is not None and home not in _held:
        handle = os.open(home, os.O_RDONLY)
        with suppress(OSError):  # some network drives know no locks
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        _held[home] = handle
    return home


def kept(cache: Cache) -> list[Kept]:
    """Return what is in the cache, the longest unused first.

    A folder whose record is damaged counts too, or it would never be swept.
    """
    found = []
    with suppress(OSError):
        for home in cache.folder.iterdir():
            if not _KEY.fullmatch(home.name):
                continue
            record = home / RECORD
            with suppress(OSError):
                used = record.stat().st_mtime
                address = _address_in(record) or f"an unknown address ({home.name})"
                waits = (home / WAITING).exists()
                found.append(Kept(home, address, size_of(home), used, waits))
    return sorted(found, key=lambda one: (one.used, one.address))


def _address_in(record: Path) -> str | None:
    """Return the address that a folder's record names; ``None`` where it is damaged or absent."""
    try:
        values = parse(plain_text(record), strict=True)
    except (OSError, ValueError):
        return None
    address = values.get("address") if isinstance(values, dict) else None
    return address if isinstance(address, str) else None


def size_of(folder: Path) -> int:
    """Return how many bytes the files below a folder have, each counted once."""
    total, seen = 0, set()
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118  a million files
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total


def make_room(address: str, needed: int, cache: Cache) -> list[str]:
    """See to it that objects of an address fit, and sweep what was not used for longest.

    Args:
        address: What is to be mirrored; its folder is in use.
        needed: Bytes that will be written.
        cache: Where.

    Returns:
        The addresses that were swept.

    Raises:
        CacheFullError: It does not fit, whatever is swept.
    """
    if not needed:
        return []
    own, everything = home_of(address, cache), kept(cache)
    total = sum(one.size for one in everything)
    swept = []
    for one in everything:
        if total + needed <= cache.limit and needed + _FREE <= _free(cache):
            break
        if one.folder != own and sweep(one):
            total -= one.size
            swept.append(one.address)
    room = min(cache.limit - total, _free(cache) - _FREE)
    if needed > max(room, 0):
        raise CacheFullError(address, needed, max(room, 0), cache.folder)
    return swept


def _free(cache: Cache) -> int:
    return shutil.disk_usage(cache.folder).free


def sweep(one: Kept) -> bool:
    """Remove what is kept of an address; whether that was done.

    What a process uses stays, and what waits for its upload.
    """
    if one.waits:
        return False
    with _alone(one.folder) as alone:
        if alone:
            shutil.rmtree(one.folder, ignore_errors=True)
    return alone


def sweep_unused(cache: Cache, days: float) -> tuple[list[Kept], list[Kept]]:
    """Remove what was not used for some days.

    Returns:
        What was removed, and what is in use or waits for its upload.
    """
    old = [one for one in kept(cache) if one.used <= time.time() - days * 86400]
    removed = [one for one in old if sweep(one)]
    return removed, [one for one in old if one not in removed]


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Lock a folder that no process uses; whether that could be done."""
    if folder in _held:
        yield False
        return
    if fcntl is None:
        yield True
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except OSError:
        alone = False
    try:
        yield alone
    finally:
        os.close(handle)
