"""ImageSet: the one table that flows through everything.

A row is an image. A stage is a function ``ImageSet -> ImageSet`` that adds columns and never
edits what it was given. A rejected image stays in the table with its reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from . import atomic
from .errors import CuratorError
from .hashing import content_hash as content_hash
from .json_text import JsonError, parse
from .naming import located, table_name
from .parquet import ParquetError, parquet_bytes, parquet_metadata, read_parquet
from .plain_files import plain_bytes
from .progress import Progress, silent
from .reading.folders import EmptyFolderError as EmptyFolderError
from .reading.kinds import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from .reading.recorded import PARAMETERS_KEY as PARAMETERS_KEY
from .rejection_reasons import Rejection
from .stores.addresses import addresses, is_address, shown
from .stores.mirror import Mirrored, mirror

SCHEMA: dict[str, pl.DataType] = {
    # what the image is
    "path": pl.String(),
    "hash": pl.String(),
    "width": pl.Int32(),
    "height": pl.Int32(),
    "subject": pl.String(),
    "seed": pl.Int64(),
    "scenario": pl.Int32(),
    "take": pl.Int32(),
    "kind": pl.String(),
    "category": pl.String(),
    "scenario_name": pl.String(),
    "prompt": pl.String(),
    "negative_prompt": pl.String(),
    "caption": pl.String(),
    "noise_seed": pl.Int64(),
    "request": pl.String(),
    "generation": pl.String(),
    # why it was left out, and when
    "rejection": pl.String(),
    "rejection_detail": pl.String(),
}
"""The columns every set has from the start; stages add theirs."""


class ImageSetFileError(CuratorError):
    """A file of an image set is absent, or is none."""

    def __init__(self, path: object, error: Exception) -> None:
        super().__init__(
            f"{path} is not an image set (a Parquet file written by this tool): {error}. Make it "
            "again with 'character-curator curate'."
        )


class MissingColumnError(CuratorError):
    """A stage was called before the one whose columns it reads."""

    def __init__(self, column: str, stage: str) -> None:
        super().__init__(f"The image set has no column '{column}'. Run {stage} first.")


class UnequalVectorsError(CuratorError):
    """A column's vectors are not of one length: several models made them, or they are damaged."""

    def __init__(self, column: str, lengths: Iterable[int]) -> None:
        told = ", ".join(str(length) for length in sorted(lengths)[:5])
        super().__init__(
            f"The vectors in '{column}' are of {told} bytes, and all of one model have as many. "
            "Measure these images anew, all by one model."
        )


@dataclass(frozen=True)
class ImageSet:
    """An immutable, columnar table of images.

    Attributes:
        table: A row an image, in a stable order. Columns are those of :data:`SCHEMA` and what
            the stages have added.
        root: The folder that relative paths are resolved against.
        notes: What is to be said of how the images were read, a sentence each.
        limits: Thresholds that stages have applied, by their keys in a project file; they are not
            written with the table.

    Example:
        >>> images = ImageSet.from_folder("photos")
        >>> len(images), images.table["kind"].unique().to_list()
        (6, ['real'])
        >>> fewer = images.reject(images.table["path"] == "003.png", Rejection.QUOTA, "by hand")
        >>> len(fewer), len(fewer.accepted), fewer.rejections()
        (6, 5, {'quota': 1})
    """

    table: pl.DataFrame
    root: Path
    notes: tuple[str, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def from_rows(rows: Iterable[Mapping[str, Any]], root: Path) -> ImageSet:
        """Make a set from one mapping an image; columns of the schema that are absent are null."""
        listed = list(rows)
        schema = dict(SCHEMA)
        extra = {key for row in listed for key in row} - set(schema)
        table = pl.DataFrame(
            {
                name: pl.Series(name, [r.get(name) for r in listed], dtype=schema[name])
                for name in schema
            }
            | {name: pl.Series(name, [r.get(name) for r in listed]) for name in sorted(extra)}
        )
        return ImageSet(table, Path(root))

    @staticmethod
    def from_folder(
        folder: Path | str | Sequence[Path | str],
        *,
        unpacked: Path | None = None,
        progress: Progress = silent,
    ) -> ImageSet:
        """List every image below ``folder``, read its header, and hash its bytes.

        Files are found recursively, in the order of their names, hidden files and folders left out,
        and folders below that this program has written (datasets, their versions, measurements); a
        folder that is reached twice through links is entered once. A file whose name says image and
        whose header does not is a row with the rejection ``unreadable``. A generated image fills
        the columns of its generation parameters; any other is of the kind ``real``.

        Of an image that another program has made, prompt and seed are read. The caption beside an
        image (``IMAGE.txt``, ``IMAGE.caption``) is kept, and its file named in a column
        ``caption_file``. A folder such as ``10_char1 woman`` gives its images the subject
        ``char1``, and columns ``repeats`` and ``class_word``. The mask beside an image
        (``IMAGE-masklabel.png``, ``masks/IMAGE.png``) is no image of its own, and named in a column
        ``mask_file``. :attr:`notes` say how much of each
        was read, and what was no image.

        Args:
            folder: A folder, a zip or tar file, a single image, or several of these (braces in a
                name stand for several, ``part-{000..009}.tar``); or, as text, the
                address of one in an object store, such as ``s3://bucket/photos``, which is
                downloaded first (see :mod:`.stores.mirror`). An object that cannot be had is a row
                with the rejection ``unreadable``.
            unpacked: Where images of a zip file are unpacked to; a folder for temporary files
                unless given.
            progress: Watches.

        Raises:
            EmptyFolderError: There is no image, or no such folder.
            SourceError: A zip file or a single file cannot be used.
            StoreError: A store refuses, does not answer, or has nothing at an address.
        """
        from .reading.folders import list_sources, sources_in
        from .reading.kinds import others_in_words
        from .reading.own import own_in_words
        from .reading.rows import describe, notes_on

        given = [folder] if isinstance(folder, str | Path) else list(folder)
        given = [name for one in given for name in (addresses(one) if is_address(one) else (one,))]
        copies = {one: mirror(str(one), progress=progress) for one in given if is_address(one)}
        places = [copies[one].path if one in copies else Path(one).expanduser() for one in given]
        listing = list_sources(sources_in(places), unpacked)
        if not listing.names:
            named = shown(", ".join(map(str, given))) or "an empty list"
            unread = (others_in_words(listing.others), own_in_words(listing.own))
            absent = "" if any(map(os.path.lexists, places)) else "there is no such folder"
            raise EmptyFolderError(named, "; ".join(filter(None, (absent, *unread))))
        root = listing.root
        progress.start("Reading the folder", len(listing.names))
        rows = []
        with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) * 2)) as pool:
            for row in pool.map(
                lambda name: describe(root, name, _columns_of), listing.names, chunksize=1
            ):
                rows.append(row)
                progress.advance()
        for row in rows if listing.masks else ():
            row["mask_file"] = listing.masks.get(row["path"])
        progress.finish()
        if listing.labels is not None:
            for row, label in zip(rows, listing.labels, strict=True):
                row["source"] = table_name(label)
        notes = notes_on(rows, listing)  # which takes away what is no column
        if copies:
            _say_faults(rows, root, copies.values())
            notes = (*(note for copy in copies.values() for note in copy.notes), *notes)
        return replace(ImageSet.from_rows(rows, root), notes=notes)

    @staticmethod
    def read(path: Path | str) -> ImageSet:
        """Read what :meth:`write` wrote.

        Raises:
            ImageSetFileError: The file is absent or is no image set.
        """
        try:
            data = plain_bytes(Path(path))
            table = read_parquet(data)
            metadata = parquet_metadata(data)
        except (OSError, ParquetError) as error:
            raise ImageSetFileError(path, error) from error
        root = metadata.get("root")
        return ImageSet(table, Path(path).parent if root is None else located(Path(), root))

    def write(self, path: Path | str) -> None:
        """Write the table as Parquet, atomically.

        Raises:
            WriteError: The disk is full, or the folder cannot be written.
        """
        atomic.write_bytes(
            Path(path), parquet_bytes(self.table, {"root": table_name(str(self.root))})
        )

    def __len__(self) -> int:
        return self.table.height

    def paths(self) -> list[Path]:
        """Return the absolute path of each image, in row order."""
        return [located(self.root, name) for name in self.table["path"]]

    @property
    def accepted(self) -> ImageSet:
        """The rows that nothing has rejected."""
        return self.filter(pl.col("rejection").is_null())

    @property
    def rejected(self) -> ImageSet:
        """The rows that a stage has rejected."""
        return self.filter(pl.col("rejection").is_not_null())

    def accepted_mask(self) -> np.ndarray:
        """Return a boolean vector: which rows nothing has rejected."""
        return self.table["rejection"].is_null().to_numpy()

    def filter(self, condition: pl.Expr | pl.Series) -> ImageSet:
        """Return the rows for which ``condition`` is true, in the same order."""
        return replace(self, table=self.table.filter(condition))

    def with_columns(self, *columns: pl.Expr | pl.Series) -> ImageSet:
        """Return a set with these columns added or replaced."""
        return replace(self, table=self.table.with_columns(*columns))

    def limited(self, applied: Mapping[str, float | None]) -> ImageSet:
        """Return a set that tells which thresholds a stage has applied; None is none."""
        known: dict[str, float | None] = {**dict(self.limits), **applied}
        kept = tuple((key, value) for key, value in known.items() if value is not None)
        return replace(self, limits=kept)

    def require(self, column: str, stage: str) -> None:
        """Raise :class:`MissingColumnError` when ``stage`` has not added ``column`` yet."""
        if column not in self.table.columns:
            raise MissingColumnError(column, stage)

    def reject(
        self, mask: np.ndarray | pl.Series, reason: Rejection, details: str | Sequence[str] = ""
    ) -> ImageSet:
        """Mark rows as rejected, unless an earlier stage has already.

        Args:
            mask: A boolean a row.
            reason: The reason, the same for all of them.
            details: One sentence for all, or one a row of the *whole* table.
        """
        texts = [details] * len(self) if isinstance(details, str) else list(details)
        new = pl.Series("new", np.asarray(mask, dtype=bool)) & self.table["rejection"].is_null()
        table = self.table.with_columns(
            new.alias("_new"), pl.Series("_detail", texts, dtype=pl.String)
        )
        return replace(
            self,
            table=table.with_columns(
                pl.when("_new")
                .then(pl.lit(reason.value))
                .otherwise("rejection")
                .alias("rejection"),
                pl.when("_new")
                .then("_detail")
                .otherwise("rejection_detail")
                .alias("rejection_detail"),
            ).drop("_new", "_detail"),
        )

    def rejections(self) -> dict[str, int]:
        """Return how many rows each reason has taken, in the order of :class:`Rejection`."""
        counted = dict(self.table.drop_nulls("rejection").group_by("rejection").len().iter_rows())
        return {reason.value: counted[reason.value] for reason in Rejection if reason in counted}

    def embeddings(self, column: str = "embedding") -> np.ndarray:
        """Decode a column of float16 vectors.

        Returns:
            float32 array of shape ``(rows, dimensions)``.

        Raises:
            MissingColumnError: The column is absent, or null in some row.
            UnequalVectorsError: Its vectors are not of one length.
        """
        stage = "'embed' (or take the accepted rows only)"
        self.require(column, stage)
        values = self.table[column]
        if values.null_count():
            raise MissingColumnError(column, stage)
        if not len(self):
            return np.zeros((0, 0), np.float32)
        lengths = {len(value) for value in values}
        if len(lengths) > 1 or lengths & {0} or min(lengths) % 2:
            raise UnequalVectorsError(column, lengths)
        return unpack_vector(b"".join(values.to_list())).reshape(len(self), -1)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the content hashes, in row order: the set's identity."""
        text = "\n".join(value or "" for value in self.table["hash"])
        return hashlib.sha256(text.encode()).hexdigest()


def _say_faults(rows: Sequence[dict[str, Any]], root: Path, copies: Iterable[Mirrored]) -> None:
    """Let rows of objects that could not be had say why."""
    faults = {
        str(copy.path.resolve() / name): reason
        for copy in copies
        for name, reason in copy.faults.items()
    }
    for row in rows if faults else ():
        reason = faults.get(str(located(root.resolve(), row["path"])))
        if reason is not None:
            row |= {"rejection": Rejection.UNREADABLE.value, "rejection_detail": reason}


def strangers(table: pl.DataFrame) -> pl.Series:
    """Return which collected images were rejected for not being the references' person.

    A lower threshold would let in other people, not worse images.
    """
    if "identity_reference" not in table.columns:
        return pl.repeat(False, table.height, eager=True)
    other = pl.col("rejection") == Rejection.IDENTITY_MISMATCH.value
    compared = pl.col("identity_reference") == "references"
    return table.select(
        (other & compared & (pl.col("kind") == "real")).fill_null(False).alias("stranger")
    )["stranger"]


def pack_vector(vector: np.ndarray) -> bytes:
    """Pack a vector as little-endian float16, as columns and the feature store hold it."""
    return np.asarray(vector, dtype="<f2").tobytes()


def unpack_vector(data: bytes) -> np.ndarray:
    """Read a vector that :func:`pack_vector` packed, as float32."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)


def vector_column(name: str, vectors: Sequence[np.ndarray | None]) -> pl.Series:
    """Make a Binary column of little-endian float16 vectors; ``None`` becomes null."""
    return pl.Series(
        name,
        [None if v is None else pack_vector(v) for v in vectors],
        dtype=pl.Binary,
    )


def _columns_of(text: str) -> dict[str, Any]:
    """Pick the columns of the schema out of an image's own description.

    Raises:
        JsonError: It is none that can be used as a whole.
    """
    described = parse(text, strict=True)
    if not isinstance(described, dict):
        raise JsonError("it is no table")
    flat = {
        **described,
        **(described["request"] if isinstance(described.get("request"), dict) else {}),
    }
    for name, kind in SCHEMA.items():
        limit = _LIMITS.get(kind)
        value = flat.get(name)
        if limit and isinstance(value, int) and not -limit <= value < limit:
            raise JsonError(f"its {name} is {value:.0e}, which is no {name}")
    columns = {name: flat[name] for name in SCHEMA if _fits(SCHEMA[name], flat.get(name))}
    for name in ("path", "hash", "width", "height", "rejection", "rejection_detail"):
        columns.pop(name, None)
    return {**columns, "generation": text}


_LIMITS: dict[pl.DataType, int] = {pl.Int32(): 2**31, pl.Int64(): 2**63}
"""What numbers of a column are less than."""


def _fits(kind: pl.DataType, value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str if kind == pl.String() else int)
