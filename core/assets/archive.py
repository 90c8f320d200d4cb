"""A zip archive that depends on nothing but its content: written again, it has the same bytes."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import atomic
from ..errors import CuratorError
from ..hashing import content_hash
from ..plain_files import plain_bytes
from ..reading.unpacked import UNPACKING_ERRORS

_BEGINNING_OF_ZIP = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PLAIN_FILE = 0o100644
_BLOCK = 1 << 20


class ArchiveError(CuratorError):
    """An archive cannot be read."""


def write_archive(folder: Path, names: Iterable[str], target: Path) -> str:
    """Write files of a folder into a zip archive, atomically.

    Every file bears the same time and permissions; they are in the order of their names and not
    compressed, so that no library's version is seen in the bytes. PNGs are compressed already.

    Args:
        folder: What the names start from, and the archive's one folder.
        names: With ``/``.
        target: The archive.

    Returns:
        SHA-256 of the archive.
    """
    with (
        atomic.replacing(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(names):
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", _BEGINNING_OF_ZIP)
            entry.create_system = _UNIX
            entry.external_attr = _PLAIN_FILE << 16
            archive.writestr(entry, plain_bytes(folder / name))
    return content_hash(target)


@dataclass(frozen=True)
class Comparison:
    """How two archives differ.

    Attributes:
        identical: Whether they are the same to the byte.
        missing: Files that only the first has.
        added: Files that only the second has.
        changed: Files whose content differs.
    """

    identical: bool
    missing: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]


def compared(first: Path, second: Path) -> Comparison:
    """Compare two archives, file by file.

    Raises:
        ArchiveError: One cannot be read.
    """
    one, other = _digests(first), _digests(second)
    return Comparison(
        content_hash(first) == content_hash(second),
        tuple(sorted(one.keys() - other.keys())),
        tuple(sorted(other.keys() - one.keys())),
        tuple(sorted(name for name in one.keys() & other.keys() if one[name] != other[name])),
    )


def _digests(path: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: _digest(archive, entry) for entry in archive.infolist()}
    except FileNotFoundError:
        raise ArchiveError(f"There is no archive {path}. Make the assets first.") from None
    except (OSError, RuntimeError, *UNPACKING_ERRORS) as error:
        raise ArchiveError(
            f"{path} cannot be read as a zip archive: {error}. Make the assets again."
        ) from error


def _digest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    """Return the SHA-256 of one file, in little memory."""
    found = hashlib.sha256()
    with archive.open(entry) as opened:
        while block := opened.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
