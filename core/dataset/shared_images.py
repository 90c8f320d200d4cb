"""The images of all versions of a dataset, stored once.

Where the file system has hard links, an image that several versions hold is one file with several
names. Where it has none (exFAT, some network shares), the earlier versions' images move to
``NAME.versions/content``, named by the SHA-256 of their bytes, and only the newest version has
files of its own. Both come after a version is whole in its place, a file at a time: whenever that
ends, each image is in its version's folder or in ``content``, and the next export goes on.

A file gives way to another only after both were read and found equal.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ..imageset import content_hash
from .checksums import NotADatasetError, exported_checksums
from .images import SUFFIXES
from .publish import versions, versions_folder

CONTENT_FOLDER = "content"
# A link fails for these reasons where links are possible.
_PASSING = {errno.EMLINK, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOENT}


def stored_image(output: Path, digest: str, name: str) -> Path:
    """Return where an image lies that an earlier version has no file of its own for.

    Args:
        output: The dataset's place.
        digest: SHA-256 of the image.
        name: Its name in the version, for the end of the name.
    """
    return versions_folder(output) / CONTENT_FOLDER / f"{digest}{Path(name).suffix}"


def share_images(output: Path) -> bool:
    """Store each image of a dataset's versions once.

    Args:
        output: The dataset's place.

    Returns:
        Whether the file system has hard links, as far as any was needed.
    """
    holders: dict[str, Path] = {}
    for _, digest, path in _images(output):
        if path is not None:
            holders.setdefault(digest, path)
    for folder in reversed(versions(output)):
        for left in folder.glob(".*.tmp"):
            left.unlink()  # of a process that was killed
        for _, digest, path in _images(folder):
            if path is None:
                continue
            holder = holders.setdefault(digest, path)
            if holder.samefile(path) or not _equal(holder, path, digest):
                continue
            if not _link(holder, path):
                _move_images(output)
                return False
    return True


def _images(folder: Path) -> Iterator[tuple[str, str, Path | None]]:
    """Yield name, listed SHA-256 and file of each image; no file where it is not there."""
    try:
        listed: Mapping[str, str] = exported_checksums(folder)
    except NotADatasetError:
        return
    for name, digest in listed.items():
        if name.endswith(SUFFIXES):
            path = folder / name
            yield name, digest, path if path.is_file() else None


def _equal(one: Path, other: Path, digest: str) -> bool:
    return content_hash(one) == digest and content_hash(other) == digest


def _link(holder: Path, path: Path) -> bool:
    """Let a name stand for another file; ``False`` where the file system has no hard links."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        os.link(holder, temporary)
    except OSError as error:
        return error.errno in _PASSING
    try:
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return True


def _move_images(output: Path) -> None:
    for folder in versions(output):
        for name, digest, path in _images(folder):
            if path is None or content_hash(path) != digest:
                continue  # what is damaged stays where it is, to be looked at
            stored = stored_image(output, digest, name)
            if stored.is_file() and content_hash(stored) == digest:
                path.unlink()
                continue
            stored.parent.mkdir(exist_ok=True)
            path.replace(stored)
