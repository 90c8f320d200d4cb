"""Tables as Parquet: written in memory, and read with care."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from .plain_files import plain_bytes


class ParquetError(ValueError):
    """A file is no Parquet that can be read."""


def parquet_bytes(table: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a table as the content of a Parquet file.

    It is made in memory: of a disk that is full Polars would not say so.

    Args:
        table: The table.
        metadata: What else the file says.
    """
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=dict(metadata) if metadata else None)
    return buffer.getvalue()


def read_parquet(source: Path | bytes, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table that :func:`parquet_bytes` made.

    Args:
        source: The file, or its content.
        columns: Those that are read; all unless given.

    Raises:
        OSError: It cannot be read.
        ParquetError: It is damaged, something else, or lacks a column.
    """
    data = plain_bytes(source) if isinstance(source, Path) else source
    try:
        return pl.read_parquet(io.BytesIO(data), columns=None if columns is None else [*columns])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_OTHERS) as error:
        raise ParquetError(_first_line(error)) from None


def parquet_metadata(data: bytes) -> Mapping[str, str]:
    """Return what else a file says than its table.

    Args:
        data: Its content.

    Raises:
        ParquetError: It is damaged, or something else.
    """
    try:
        return pl.read_parquet_metadata(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_OTHERS) as error:
        raise ParquetError(_first_line(error)) from None


_OTHERS = (OSError, ValueError, TypeError, MemoryError)
"""What Polars raises of damaged files besides errors of its own and panics of its inner parts."""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
