"""What this program itself has written: known by marks of its own, never by a name alone.

A folder of somebody else's is never moved aside, and a dataset, an older version of one, or a
folder of measurements is never taken for somebody's images.
"""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from ..counts import how_many
from ..json_text import parse
from ..plain_files import plain, plain_text

PROGRAM = "character-curator"
RECORD_FILE = "version.json"
"""What an export says of its version; the mark of a dataset."""
CHECKSUMS_FILE = "SHA256SUMS"
VERSIONS_SUFFIX = ".versions"
"""``NAME.versions`` beside a dataset ``NAME`` keeps its earlier versions."""

_DRAWN_ENDS = (".loss.png", ".samples.png")
"""What a training draws beside ``NAME.safetensors``."""
_STORE_FILE = "features.sqlite"
_STORE_MARK = b"TABLE feature ("
_HEAD = 3 * 4096
# What each export has listed from the first on, before there was a record.
_ALWAYS = frozenset(
    {"README.md", "dataset.toml", "metadata.jsonl", "provenance.parquet", "recipe.toml"}
)


def is_dataset(folder: Path) -> bool:
    """Whether an export of this program has written a folder, whatever became of it since.

    Args:
        folder: Any folder, which need not exist.
    """
    return _has_record(folder) or _lists_an_export(folder)


def is_own_output(folder: Path) -> bool:
    """Whether a folder is a dataset, holds versions of one, or is one of measurements.

    Args:
        folder: Any folder, which need not exist.
    """
    return is_dataset(folder) or _keeps_versions(folder) or _has_measurements(folder)


def is_drawn_by_training(name: str, beside: Container[str]) -> bool:
    """Whether an image is the losses or the samples of a LoRA that lies beside it.

    Args:
        name: Of the image, with ``/``.
        beside: Names of all files there.
    """
    return any(
        name.endswith(end) and f"{name.removesuffix(end)}.safetensors" in beside
        for end in _DRAWN_ENDS
    )


def drawn_in(folder: Path) -> frozenset[str]:
    """Return the names of the images in a folder that show the training of a LoRA beside them."""
    there = {path.name for path in folder.iterdir()}
    return frozenset(name for name in there if is_drawn_by_training(name, there))


def is_version_name(name: str) -> bool:
    """Whether a folder's name is that of a kept version: ``v0001``."""
    return re.fullmatch(r"v\d{4,}", name) is not None


def own_in_words(names: tuple[str, ...]) -> str:
    """Say which folders and files were not read because this program has written them.

    Returns:
        A sentence or two; empty for none.
    """
    files = tuple(name for name in names if name.endswith(_DRAWN_ENDS))
    folders = tuple(name for name in names if name not in files)
    said = []
    if folders:
        said.append(f"{_counted(folders, 'folder')}. To read one, name it as a source itself.")
    if files:
        said.append(f"{_counted(files, 'file')}: they show a training, beside its LoRA.")
    return " ".join(said)


def _counted(names: tuple[str, ...], what: str) -> str:
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    were = how_many(len(names), f"{what} was", f"{what}s were")
    return f"{were} written by {PROGRAM} and not read as images: {listed}"


def _has_record(folder: Path) -> bool:
    try:
        values = parse(plain_text(folder / RECORD_FILE))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("program") == PROGRAM


def _lists_an_export(folder: Path) -> bool:
    try:
        text = plain_text(folder / CHECKSUMS_FILE)
    except (OSError, ValueError):
        return False
    return {line[66:] for line in text.split("\n")} >= _ALWAYS


def _keeps_versions(folder: Path) -> bool:
    if not folder.name.endswith(VERSIONS_SUFFIX):
        return False
    try:
        return any(is_version_name(path.name) and is_dataset(path) for path in folder.iterdir())
    except OSError:
        return False


def _has_measurements(folder: Path) -> bool:
    # While a process measures, or after it was killed, the table stands in SQLite's log alone.
    return any(_STORE_MARK in _head(folder / name) for name in (_STORE_FILE, f"{_STORE_FILE}-wal"))


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    try:
        with open(path, "rb", opener=plain) as file:
            return file.read(_HEAD)
    except OSError:
        return b""
