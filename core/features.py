"""The feature store: what has been measured of which pixels, by which analyser.

One SQLite file in WAL mode. A row is keyed by the content hash of an image, the name of the
analyser and the fingerprint of its model and parameters. Moving a threshold therefore never
measures anything again, and changing a model never reuses what another model said.

What is read is never believed as it stands: each row has a checksum of its key and its value, and
one that does not agree is as if it were absent, counted and said. A file that SQLite cannot read is
set aside under another name, and a new one is begun with the rows that are whole.
"""

from __future__ import annotations

import hashlib
import io
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from . import atomic
from .counts import how_many, worded
from .damages import note_damage
from .errors import CuratorError
from .hashing import file_state
from .plain_files import plain

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feature (
    analyser TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    hash TEXT NOT NULL,
    value BLOB NOT NULL,
    checksum BLOB,
    PRIMARY KEY (analyser, fingerprint, hash)
) WITHOUT ROWID
"""
_VERSIONS = range(18, 20)
"""Where a file's header has the versions that write and read it; 1 and 2 are known."""
_COLUMNS = "analyser, fingerprint, hash, value, checksum"
_CHUNK = 500
IN_MEMORY = ":memory:"
"""The path of a store that is no file."""
_PATIENCE = 60.0
"""Seconds to wait for another program that holds the file."""

_LOCKED, _FULL, _REFUSED, _DAMAGED = "locked", "full", "refused", "damaged"
_CAUSES = {5: _LOCKED, 6: _LOCKED, 13: _FULL, 3: _REFUSED, 8: _REFUSED, 10: _REFUSED, 14: _REFUSED,
           23: _REFUSED, 7: _REFUSED}  # fmt: skip
"""What SQLite's primary result codes mean; any other says that the file is not as it should be."""
_WORDS = {"locked": _LOCKED, "is full": _FULL, "readonly": _REFUSED, "unable to open": _REFUSED,
          "i/o error": _REFUSED, "out of memory": _REFUSED}  # fmt: skip
_ADVICE = {
    _LOCKED: "Another program holds it for more than a minute: wait until that has ended, or end "
    "it, and run again.",
    _FULL: "Free some space on that disk and run again; what was stored is kept.",
    _REFUSED: "Choose a folder that can be read and written; if it is one, have its disk or "
    "network drive checked.",
    _DAMAGED: "It was begun anew and is damaged again. Choose a folder on another disk, and have "
    "this one checked.",
}

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises: Python cannot decode a message that repeats damaged text."""

_CHECKED: set[tuple[str | int, ...]] = set()
"""The states of files that SQLite has found in order: path and state."""

_T = TypeVar("_T")


class FeatureStoreError(CuratorError):
    """The feature store cannot be read or written."""

    def __init__(self, path: str, what: str, error: Exception) -> None:
        super().__init__(f"The feature store {path} cannot be {what}: {error}. "
                         f"{_ADVICE[_cause(error)]}")  # fmt: skip


class FeatureStore:
    """Measurements on disk, by content.

    Safe to use from several threads and several processes.

    Attributes:
        path: The SQLite file.
        computed: Per analyser, the rows that this object has stored: zero after a run means that
            nothing was measured.
        damaged: Per analyser, the rows that did not agree with their checksum, and were left out.
        losses: How often something that was stored turned out to be lost. Whoever has asked for
            several things, and finds another number than before, asks again.

    Args:
        path: The SQLite file; made with its folder when absent. ``":memory:"`` keeps it in memory.
            One of an earlier version gets its checksums; one that cannot be read is set aside.

    Raises:
        FeatureStoreError: Its folder cannot be written, another program holds the file, or it is
            something else, such as an image.
    """

    def __init__(self, path: Path | str = IN_MEMORY) -> None:
        self.path = str(path)
        self.computed: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self.losses = 0
        self._told: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        try:
            if self.path != IN_MEMORY:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                if Path(path).exists() and not Path(path).is_file():
                    raise OSError("it is no plain file")
                if _is_of_others(Path(path)):
                    raise OSError("it is a file of another kind, and stays as it is")
        except (OSError, ValueError) as error:
            raise FeatureStoreError(self.path, "opened", error) from error
        self._connection: sqlite3.Connection | None = None
        self._identity = _identity(self.path)
        self._guarded("opened", self._connected)

    def get(self, hashes: Iterable[str], analyser: str, fingerprint: str) -> dict[str, bytes]:
        """Return what is stored for ``hashes``; absent and damaged ones are left out.

        Raises:
            FeatureStoreError: The file cannot be read.
        """
        wanted = list(dict.fromkeys(hashes))
        with self._lock:
            found, damaged = self._guarded(
                "read", lambda: self._read(wanted, analyser, fingerprint)
            )
            new = {(analyser, fingerprint, key) for key in damaged} - self._told
            self._told |= new
            self.damaged[analyser] += len(new)
            self.losses += len(new)
        if new:
            note_damage(f"measurements ({analyser})", self.path, "measured again", len(new))
            log.warning(
                "%s (%s) in the feature store %s: computed again.",
                how_many(len(new), "damaged value"), analyser, self.path,
            )  # fmt: skip
        return found

    def put(self, items: Mapping[str, bytes], analyser: str, fingerprint: str) -> None:
        """Store ``items`` (content hash to value) in one transaction and count them.

        Raises:
            FeatureStoreError: The disk is full, or the file cannot be written.
        """
        if not items:
            return
        rows = [
            (analyser, fingerprint, key, value, _checksum(analyser, fingerprint, key, value))
            for key, value in items.items()
        ]
        with self._lock:
            self._guarded("written", lambda: self._write(rows))
        self.computed[analyser] += len(items)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> sqlite3.Connection:
        """Return the open file; an earlier version's rows get their checksums."""
        if self._connection is not None:
            return self._connection
        made = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        self._identity = _identity(self.path)
        try:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=NORMAL")
            made.execute(_SCHEMA)
            made.commit()
            self._check(made)
            if not _has_checksums(made):
                _add_checksums(made, self.path)
            made.execute(f"SELECT {_COLUMNS} FROM feature LIMIT 0")  # noqa: S608
        except BaseException:
            made.close()
            raise
        self._connection = made
        return made

    def _check(self, connection: sqlite3.Connection) -> None:
        """Let SQLite look whether each row is where it is looked for, once a state of the file."""
        if self.path == IN_MEMORY:
            return
        state = (self.path, *file_state(Path(self.path)))
        if state in _CHECKED:
            return
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found is None or found[0] != "ok":
            raise sqlite3.DatabaseError(found[0] if found else "it cannot be checked")
        _CHECKED.add(state)

    def _read(
        self, wanted: list[str], analyser: str, fingerprint: str
    ) -> tuple[dict[str, bytes], list[str]]:
        found: dict[str, bytes] = {}
        damaged: list[str] = []
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            rows = self._connected().execute(
                # Only question marks are inserted.
                "SELECT hash, value, checksum FROM feature "  # noqa: S608
                f"WHERE analyser = ? AND fingerprint = ? AND hash IN ({marks})",
                (analyser, fingerprint, *part),
            )
            for key, value, checksum in rows:
                if _is_whole(analyser, fingerprint, key, value, checksum):
                    found[key] = value
                else:
                    damaged.append(key)
        return found, damaged

    def _write(self, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._connected() as connection:
            connection.executemany("INSERT OR REPLACE INTO feature VALUES (?, ?, ?, ?, ?)", rows)

    def _guarded(self, what: str, action: Callable[[], _T]) -> _T:
        """Do something with the file; where it is damaged, with a new one."""
        try:
            return action()
        except SQLITE_ERRORS as error:
            is_damaged = _cause(error) == _DAMAGED or _is_of_the_future(self.path)
            if not is_damaged or self.path == IN_MEMORY:
                raise FeatureStoreError(self.path, what, error) from error
            try:
                self._begin_anew(error)
                return action()
            except (*SQLITE_ERRORS, OSError) as again:
                raise FeatureStoreError(self.path, what, again) from again

    def _begin_anew(self, error: Exception) -> None:
        """Set a file aside that cannot be read, and take over what is whole in it."""
        self._close()
        self.losses += 1
        if _identity(self.path) != self._identity:
            return  # another process has begun it anew
        kept = _set_aside(Path(self.path))
        taken: set[tuple[Any, ...]] = set()
        rows = _whole_rows(kept)
        while part := list(islice(rows, _CHUNK)):
            self._write(part)
            taken |= {row[:3] for row in part}
        note_damage("files of measurements", self.path, f"kept as {kept.name}, and begun anew")
        log.warning(
            "The feature store %s is damaged (%s). It is kept as %s, and begun anew with the "
            "%s in it that %s whole; the others are computed again.",
            self.path, error, kept.name,
            how_many(len(taken), "value"), worded(len(taken), "is", "are"),
        )  # fmt: skip

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(*SQLITE_ERRORS):
                self._connection.close()
            self._connection = None


def _cause(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return _DAMAGED
    if not isinstance(error, sqlite3.Error):
        return _REFUSED
    code = getattr(error, "sqlite_errorcode", None)  # from Python 3.11 on
    if code is not None:
        return _CAUSES.get(code & 0xFF, _DAMAGED)
    text = str(error).lower()
    return next((cause for words, cause in _WORDS.items() if words in text), _DAMAGED)


def _is_of_the_future(path: str) -> bool:
    """Whether a file's header has a version that no SQLite writes, which it refuses to change."""
    try:
        with open(path, "rb", opener=plain) as file:
            head = file.read(_VERSIONS.stop)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3") and any(head[place] > 2 for place in _VERSIONS)


def _checksum(analyser: str, fingerprint: str, key: str, value: bytes) -> bytes:
    """Return the checksum of a row: of its key too, so that none is taken for another's."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (analyser, fingerprint, key):
        part = text.encode("utf-8", "surrogatepass")
        digest.update(len(part).to_bytes(8, "little") + part)
    digest.update(value)
    return digest.digest()


def _is_whole(analyser: Any, fingerprint: Any, key: Any, value: Any, checksum: Any) -> bool:
    if not all(isinstance(text, str) for text in (analyser, fingerprint, key)):
        return False
    return isinstance(value, bytes) and checksum == _checksum(analyser, fingerprint, key, value)


def _has_checksums(connection: sqlite3.Connection) -> bool:
    return any(row[1] == "checksum" for row in connection.execute("PRAGMA table_info(feature)"))


def _add_checksums(connection: sqlite3.Connection, path: str) -> None:
    """Give the rows of an earlier version their checksums; nothing is measured again."""
    connection.create_function("checksum_of", 4, _checksum, deterministic=True)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if _has_checksums(connection):  # another process was first
            return
        connection.execute("ALTER TABLE feature ADD COLUMN checksum BLOB")
        changed = connection.execute(
            "UPDATE feature SET checksum = checksum_of(analyser, fingerprint, hash, value)"
        ).rowcount
    told = how_many(changed, "value has a checksum", "values have checksums")
    log.info("Of the feature store %s %s from now on.", path, told)


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file lies under a name."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_of_others(path: Path) -> bool:
    """Whether a file is neither called a database nor begins as one: it was never a store."""
    if path.suffix in (".sqlite", ".db") or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(16)
    return bool(head) and not head.startswith(b"SQLite format 3")


def _set_aside(path: Path) -> Path:
    """Rename a file, and what SQLite keeps beside it, to a name that is free."""
    kept = atomic.free_aside(path)
    # The file goes last: a kill in between would leave its log to the next file of that name.
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(kept.with_name(kept.name + end))
    return kept


def _whole_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """Read what is whole in a damaged file, from both ends of its table."""
    # Where a page is damaged SQLite stops: what lies behind it is reached from the other end.
    for order in ("ASC", "DESC"):
        with suppress(*SQLITE_ERRORS), closing(sqlite3.connect(path, timeout=1.0)) as connection:
            key = f"analyser {order}, fingerprint {order}, hash {order}"
            for row in connection.execute(
                f"SELECT {_COLUMNS} FROM feature ORDER BY {key}"  # noqa: S608
            ):
                if _is_whole(*row):
                    yield row


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
