"""Measurements on their way into the feature store: parts, written by whoever measured them.

Where many machines measure, what they found does not go through the one process that holds the
store: each worker writes a part, a Parquet file named by the hash of its content, into a folder
that all of them reach. Parts are whole or absent, and merging one twice changes nothing, so that
neither a worker nor the process that holds the store loses anything by being killed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from . import atomic
from .damages import note_damage
from .errors import CuratorError, WriteError
from .features import IN_MEMORY, FeatureStore
from .parquet import ParquetError, parquet_bytes, read_parquet
from .plain_files import plain_bytes

log = logging.getLogger(__name__)

Rows = Mapping[tuple[str, str], Mapping[str, bytes]]
"""Values by content hash, by (analyser, fingerprint)."""

_FOLDER = ".parts"
_SUFFIX = ".parquet"
_DAMAGED = ".damaged"
_COLUMNS = {"analyser": pl.String, "fingerprint": pl.String, "hash": pl.String, "value": pl.Binary}
_MERGED_AT_ONCE = 64


class PartsError(CuratorError):
    """Parts of the feature store cannot be read."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The measurements in {folder} cannot be read: {error}. It must be a folder that this "
            "machine and the workers read and write; run again when it is, what is there is kept."
        )


def parts_of(store: FeatureStore) -> Path | None:
    """Return the folder where a store's parts are gathered; ``None`` for one in memory."""
    return None if store.path == IN_MEMORY else Path(store.path).with_suffix(_FOLDER)


def write_part(folder: Path | str, rows: Rows) -> str:
    """Write measurements as one part; return its name, empty where there are none.

    The same measurements have the same name: written twice, by a worker and by another that was
    given its work, they are one file.

    Args:
        folder: Where parts are gathered; made if absent.
        rows: What was measured.

    Raises:
        WriteError: The folder cannot be written, or the disk is full.
    """
    flat = sorted(
        (analyser, fingerprint, key, value)
        for (analyser, fingerprint), items in rows.items()
        for key, value in items.items()
    )
    if not flat:
        return ""
    data = parquet_bytes(pl.DataFrame(flat, schema=_COLUMNS, orient="row"))
    name = hashlib.sha256(data).hexdigest() + _SUFFIX
    atomic.write_bytes(Path(folder) / name, data)
    return name


def merge_parts(store: FeatureStore, folder: Path | str) -> int:
    """Take what lies in a folder of parts into the store; remove what has been taken.

    A part goes only when its rows are in the store. One that is not what its name says is renamed
    to ``*.damaged`` and left, and told of: what it held is measured again.

    Args:
        store: Gets the rows.
        folder: The parts; nothing is done where it is absent.

    Returns:
        How many rows were taken.

    Raises:
        PartsError: The folder or a part cannot be read.
        WriteError: A part that has been taken cannot be removed.
        FeatureStoreError: The store cannot be written.
    """
    home = Path(folder)
    try:
        paths = sorted(home.glob(f"*{_SUFFIX}"))
    except OSError as error:
        raise PartsError(home, error) from error
    taken = 0
    for start in range(0, len(paths), _MERGED_AT_ONCE):
        some = paths[start : start + _MERGED_AT_ONCE]
        gathered: dict[tuple[str, str], dict[str, bytes]] = {}
        for analyser, fingerprint, key, value in _rows_of(some):
            gathered.setdefault((analyser, fingerprint), {})[key] = value
        for (analyser, fingerprint), items in gathered.items():
            store.put(items, analyser, fingerprint)
            taken += len(items)
        for path in some:
            _remove(path)
    return taken


def _rows_of(paths: list[Path]) -> Iterator[tuple[str, str, str, bytes]]:
    """Read parts; damaged ones are set aside."""
    for path in paths:
        try:
            data = plain_bytes(path)
        except FileNotFoundError:  # another process has merged it
            continue
        except OSError as error:
            raise PartsError(path.parent, error) from error
        try:
            if hashlib.sha256(data).hexdigest() != path.stem:
                raise ParquetError("its content is not what its name says")
            table = read_parquet(data, list(_COLUMNS)).cast(_COLUMNS)  # type: ignore[arg-type]
        except (ParquetError, pl.exceptions.PolarsError) as error:
            note_damage("parts of measurements", path.parent, "measured again")
            log.warning(
                "%s is damaged (%s): it is kept as *%s, and what it held is measured again.",
                path, error, _DAMAGED,
            )  # fmt: skip
            _set_aside(path)
            continue
        yield from table.iter_rows()


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_suffix(_DAMAGED))
    except FileNotFoundError:
        return
    except OSError as error:
        raise WriteError(path, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(path, error) from error
