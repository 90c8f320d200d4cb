"""What was unpacked from an archive, and whether it is still what was unpacked.

An archive is unpacked once; later runs read the files that lie there. Beside their folder lies a
hidden list of their sizes and checksums (CRC-32, as in zip files), so that a file that has been
changed or lost is not taken for the archive's.
"""

from __future__ import annotations

import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import atomic
from ..json_text import parse
from ..plain_files import plain_text

UNPACKING_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, NotImplementedError, EOFError, ValueError, LookupError,
    ArithmeticError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""What the standard library raises for archives that are damaged, beside ``OSError``; and
``RuntimeError`` where there is a password."""
_THREADS = 8
_BLOCK = 1 << 20


def list_of(folder: Path) -> Path:
    """Return where the list of an unpacked folder is."""
    return folder.with_name(f".{folder.name}.unpacked.json")


def write_unpacked(making: Path, folder: Path) -> None:
    """List what has just been unpacked, before the folder gets its name.

    Args:
        making: Where the files are.
        folder: Where they will be.

    Raises:
        OSError: The list cannot be written.
    """
    text = json.dumps(_sums(making), indent=0, sort_keys=True)
    atomic.write_text(list_of(folder), f"{text}\n")


def damaged_since(folder: Path) -> tuple[str, ...]:
    """Return the files that are gone or changed since an archive was unpacked, in order.

    A folder of an earlier version has no list; nothing of it counts as damaged. A list that cannot
    be read is damaged itself. What has been added is somebody's own.

    Raises:
        OSError: The folder cannot be read.
    """
    path = list_of(folder)
    try:
        listed = parse(plain_text(path))
        if not isinstance(listed, dict):
            raise ValueError("it is no table")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError):
        return (path.name,)
    found = _sums(folder)
    return tuple(sorted(name for name, known in listed.items() if found.get(name) != known))


def _sums(folder: Path) -> dict[str, list[int]]:
    """Return size and checksum of each file below a folder, by name."""
    names = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(_sum, names.values()), strict=True))


def _sum(path: Path) -> list[int]:
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return [size, checksum]
