"""The feature store: what has been measured of which pixels, by which analyser.

One SQLite file in WAL mode. A row is keyed by the content hash of an image, the name of the
analyser and the fingerprint of its model and parameters. Moving a threshold therefore never
measures anything again, and changing a model never reuses what another model said.
"""

from __future__ import annotations

import io
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from .errors import CuratorError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feature (
    analyser TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    hash TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (analyser, fingerprint, hash)
) WITHOUT ROWID
"""
_CHUNK = 500


class FeatureStoreError(CuratorError):
    """The feature store cannot be read or written."""


class FeatureStore:
    """Measurements on disk, by content.

    Safe to use from several threads and several processes. ``computed`` counts, per analyser, the
    rows that this object has stored: zero after a run means that nothing was measured.

    Args:
        path: The SQLite file; made with its folder when absent. ``":memory:"`` keeps it in memory.

    Raises:
        FeatureStoreError: The file is not a feature store, or its folder cannot be written.
    """

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.path = str(path)
        self.computed: Counter[str] = Counter()
        self._lock = threading.Lock()
        try:
            if self.path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60.0, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_SCHEMA)
            self._connection.commit()
        except (sqlite3.Error, OSError) as error:
            raise FeatureStoreError(
                f"The feature store {self.path} cannot be opened: {error}. Move the file away to "
                "measure everything again, or choose a folder that can be written."
            ) from error

    def get(self, hashes: Iterable[str], analyser: str, fingerprint: str) -> dict[str, bytes]:
        """Return what is stored for ``hashes``; absent ones are left out."""
        wanted = list(dict.fromkeys(hashes))
        found: dict[str, bytes] = {}
        with self._lock:
            for start in range(0, len(wanted), _CHUNK):
                part = wanted[start : start + _CHUNK]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(
                    # Only question marks are inserted.
                    "SELECT hash, value FROM feature WHERE analyser = ? AND fingerprint = ? "  # noqa: S608
                    f"AND hash IN ({marks})",
                    (analyser, fingerprint, *part),
                )
                found.update(rows)
        return found

    def put(self, items: Mapping[str, bytes], analyser: str, fingerprint: str) -> None:
        """Store ``items`` (content hash to value) in one transaction and count them.

        Raises:
            FeatureStoreError: The disk is full or the file was damaged.
        """
        if not items:
            return
        try:
            with self._lock, self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO feature VALUES (?, ?, ?, ?)",
                    [(analyser, fingerprint, key, value) for key, value in items.items()],
                )
        except sqlite3.Error as error:
            raise FeatureStoreError(
                f"The feature store {self.path} cannot be written: {error}. Free some space on "
                "that disk and run again; what was stored is kept."
            ) from error
        self.computed[analyser] += len(items)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def encode_arrays(**arrays: np.ndarray) -> bytes:
    """Pack named arrays into bytes (NumPy's npz container, without pickle)."""
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError("Object arrays would need pickle.")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def decode_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Unpack what :func:`encode_arrays` made."""
    with np.load(io.BytesIO(data), allow_pickle=False) as packed:
        return {name: packed[name] for name in packed.files}


def encode_array(array: np.ndarray) -> bytes:
    """Pack one array into bytes (NumPy's npy format: dtype, shape, data)."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def decode_array(data: bytes) -> np.ndarray:
    """Unpack what :func:`encode_array` made."""
    return np.load(io.BytesIO(data), allow_pickle=False)
