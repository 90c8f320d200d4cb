"""ImageSet: the one table that flows through everything.

A row is an image. A stage is a function ``ImageSet -> ImageSet`` that adds columns and never
edits what it was given. A rejected image stays in the table with its reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from . import atomic
from .errors import CuratorError
from .progress import Progress, silent
from .rejection_reasons import Rejection

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""What :meth:`ImageSet.from_folder` takes for an image."""

PARAMETERS_KEY = "character_curator"
"""The PNG text chunk in which a generated image describes itself (JSON)."""

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


class EmptyFolderError(CuratorError):
    """A folder holds no image at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"No image in {folder} or its subfolders. Name a folder that holds PNG, JPEG, WebP, "
            "BMP or TIFF files."
        )


class MissingColumnError(CuratorError):
    """A stage was called before the one whose columns it reads."""

    def __init__(self, column: str, stage: str) -> None:
        super().__init__(f"The image set has no column '{column}'. Run {stage} first.")


@dataclass(frozen=True)
class ImageSet:
    """An immutable, columnar table of images.

    Attributes:
        table: A row an image, in a stable order. Columns are those of :data:`SCHEMA` and what
            the stages have added.
        root: The folder that relative paths are resolved against.

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
    def from_folder(folder: Path | str, *, progress: Progress = silent) -> ImageSet:
        """List every image below ``folder``, read its header, and hash its bytes.

        Files are found recursively, in the order of their names, hidden files and folders left
        out; a folder that is reached twice through links is entered once. A file whose name says
        image and whose header does not is a row with the rejection ``unreadable``. A generated
        image fills the columns of its generation parameters; any other is of the kind ``real``.

        Raises:
            EmptyFolderError: There is no image, or no such folder.
        """
        root = Path(folder).expanduser()
        names = _find_images(root)
        if not names:
            raise EmptyFolderError(root)
        progress.start("Reading the folder", len(names))
        rows = []
        with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) * 2)) as pool:
            for row in pool.map(lambda name: _describe(root, name), names, chunksize=1):
                rows.append(row)
                progress.advance()
        progress.finish()
        return ImageSet.from_rows(rows, root)

    @staticmethod
    def read(path: Path | str) -> ImageSet:
        """Read what :meth:`write` wrote.

        Raises:
            CuratorError: The file is absent or is no image set.
        """
        try:
            table = pl.read_parquet(path)
            metadata = pl.read_parquet_metadata(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CuratorError(
                f"{path} is not an image set (a Parquet file written by this tool): {error}. Make "
                "it again with 'character-curator curate'."
            ) from error
        root = metadata.get("root", str(Path(path).parent))
        return ImageSet(table, Path(root))

    def write(self, path: Path | str) -> None:
        """Write the table as Parquet, atomically."""
        with atomic.replacing(Path(path)) as temporary:
            self.table.write_parquet(temporary, metadata={"root": str(self.root)})

    def __len__(self) -> int:
        return self.table.height

    def paths(self) -> list[Path]:
        """Return the absolute path of each image, in row order."""
        return [self.root / name for name in self.table["path"]]

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
        return ImageSet(self.table.filter(condition), self.root)

    def with_columns(self, *columns: pl.Expr | pl.Series) -> ImageSet:
        """Return a set with these columns added or replaced."""
        return ImageSet(self.table.with_columns(*columns), self.root)

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
        return ImageSet(
            table.with_columns(
                pl.when("_new")
                .then(pl.lit(reason.value))
                .otherwise("rejection")
                .alias("rejection"),
                pl.when("_new")
                .then("_detail")
                .otherwise("rejection_detail")
                .alias("rejection_detail"),
            ).drop("_new", "_detail"),
            self.root,
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
        """
        stage = "'embed' (or take the accepted rows only)"
        self.require(column, stage)
        values = self.table[column]
        if values.null_count():
            raise MissingColumnError(column, stage)
        if not len(self):
            return np.zeros((0, 0), np.float32)
        return unpack_vector(b"".join(values.to_list())).reshape(len(self), -1)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the content hashes, in row order: the set's identity."""
        text = "\n".join(value or "" for value in self.table["hash"])
        return hashlib.sha256(text.encode()).hexdigest()


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


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _find_images(root: Path) -> list[str]:
    found: list[str] = []
    entered: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def _describe(root: Path, name: str) -> dict[str, Any]:
    """Read the header of one file: never raises, always a row."""
    from PIL import Image

    path = root / name
    row: dict[str, Any] = {"path": name, "kind": "real"}
    try:
        if not path.is_file():
            raise OSError("a link that leads nowhere, or to itself, or not a plain file")
        if path.stat().st_size == 0:
            raise OSError("the file is empty (0 bytes)")
        row["hash"] = content_hash(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                row["width"], row["height"] = image.size
                text = image.info.get(PARAMETERS_KEY)
        if isinstance(text, str):
            row |= _columns_of(text)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        row |= {
            "rejection": Rejection.UNREADABLE.value,
            "rejection_detail": _reason(error, path),
        }
    return row


def _reason(error: Exception, path: Path) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return f"not an image, whatever its name says ({path.suffix})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _columns_of(text: str) -> dict[str, Any]:
    """Pick the columns of the schema out of an image's own description."""
    try:
        described = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(described, dict):
        return {}
    flat = {
        **described,
        **(described["request"] if isinstance(described.get("request"), dict) else {}),
    }
    columns = {name: flat[name] for name in SCHEMA if _fits(SCHEMA[name], flat.get(name))}
    for name in ("path", "hash", "width", "height", "rejection", "rejection_detail"):
        columns.pop(name, None)
    return {**columns, "generation": text}


def _fits(kind: pl.DataType, value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str if kind == pl.String() else int)
