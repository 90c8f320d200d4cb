"""One way to hash a value: the SHA-256 of its JSON with sorted keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .json_text import parse
from .plain_files import plain


def json_hash(value: object) -> str:
    """Return the SHA-256, in hexadecimal, of a value's JSON.

    Keys are sorted and everything beyond ASCII is escaped, so that equal values have equal hashes
    on every machine. Mappings are taken by their keys as text: ``1`` and ``"1"`` are one key.

    Args:
        value: Whatever ``json.dumps`` takes.

    Raises:
        TypeError: Something in it is no JSON.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values, ready for JSON, with their ``seal``: the hash of all others.

    Whoever reads them again sees with :func:`unsealed` that they are as they were written.
    """
    read_again: dict[str, Any] = parse(json.dumps(values))  # its keys are texts then
    return {**read_again, "seal": json_hash(read_again)}


def unsealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sealed; without a seal, as an earlier version has written it, as it is.

    Raises:
        ValueError: The seal is another's.
    """
    found = dict(values)
    seal = found.pop("seal", None)
    try:
        whole = seal is None or seal == json_hash(found)
    except RecursionError:
        whole = False
    if not whole:
        raise ValueError("its seal is another")
    return found


def file_state(path: Path) -> tuple[int, int, int, int]:
    """Return what tells one state of a file from another, without reading it.

    Size and time of change do not: a program can set the latter, as copying tools do. Which file
    it is and when its entry was last touched can't be set.

    Args:
        path: The file.

    Returns:
        Inode, size in bytes, time of change of the content and of the entry in nanoseconds.

    Raises:
        OSError: There is no such file.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb", opener=plain) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
