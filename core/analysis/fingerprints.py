"""Fingerprints of models on disk: what measurements made with them depend on."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from ..hashing import content_hash, file_state


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; one that has not changed is hashed once a process."""
    return _hashed(path, file_state(path))


def folder_fingerprint(folder: Path, pattern: str = "*") -> str:
    """Return the SHA-256 of the names and bytes of the files right in a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.glob(pattern) if p.is_file()):
        digest.update(f"{path.name}\0{file_fingerprint(path)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _hashed(path: Path, state: tuple[int, ...]) -> str:
    del state  # it tells one state of the file from another
    return content_hash(path)
