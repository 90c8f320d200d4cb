"""A folder's files as they are to be compared, and whether each of them is whole.

What may differ from one run to the next is listed here, key by key: the time that something took
or was done at, and what follows from that. Nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import polars as pl
from PIL import Image

from character_curator.dataset.publish import damage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECONDS = {"seconds"}
JSON_MAY_DIFFER = (
    (r".*/version\.json|version\.json", {"time", "seal"}),
    (r".*/finished\.json", {"seconds", "seal"}),
    (r".*/before-after\.json", SECONDS),
    (r".*/runs/[^/]*/result\.json|.*/settled\.json", {"seconds", "seal"}),
    (r".*/augmentation\.json", {"seconds", "cost"}),
    (r".*/runs/[^/]*/run\.json", SECONDS),
    (r".*/portfolio\.json", {"generation_seconds", "curation_seconds", "cost", "untimed"}),
)
"""Files, and the keys in them, at any depth, that say when, how long, or a price by the hour."""

TEMPORARY = re.compile(r"(^|/)\.[^/]*(\.tmp|\.tmp-[0-9a-f]+|\.lock)(/|$)|(^|/)\.unpacking-")
"""Names that no reader takes for a result."""


NUMBERS = frozenset({"version"})
"""The key that says which version of a dataset something is of, in :data:`JSON_MAY_DIFFER`."""


def contents(folder: Path, apart: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the hash of each file below a folder, without what may differ; of folders, ``/``.

    Args:
        folder: The folder.
        apart: More keys that may differ, in the files of :data:`JSON_MAY_DIFFER`.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = "/"
        elif not name.endswith((".sqlite-wal", ".sqlite-shm")):
            found[name] = hashlib.sha256(_comparable(path, name, apart)).hexdigest()
    return found


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Say in what two folders differ."""
    said = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    said += [f"{name} is left over" for name in sorted(found.keys() - expected.keys())]
    both = sorted(found.keys() & expected.keys())
    return said + [f"{name} is another" for name in both if found[name] != expected[name]]


def _comparable(path: Path, name: str, apart: frozenset[str]) -> bytes:
    data = path.read_bytes()
    for pattern, keys in JSON_MAY_DIFFER:
        if re.fullmatch(pattern, name):
            return json.dumps(_without(json.loads(data), keys | apart)).encode()
    if name.endswith(".sqlite"):
        return repr(rows_of(path)).encode()
    if name.endswith("caption-edits.jsonl"):
        lines = [_without(json.loads(line), {"time"}) for line in data.splitlines()]
        return json.dumps(lines).encode()
    if name.endswith("/times.jsonl"):  # a line may be lost or cut off, and then says no time
        return b""
    if name.endswith("/state.safetensors"):
        return _state(data)
    if name.endswith("/history.parquet"):
        return pl.read_parquet(io.BytesIO(data)).drop("seconds").write_json().encode()
    if name.endswith("portfolio/README.md"):  # the columns of times and costs in its table
        data = re.sub(rb"(\|[^|\n]*){3}(\| none \|\n)", rb"\2", data)
        return re.sub(rb"Of \d+ images the time is not known: [^.]*\.\s*", b"", data)
    return data


def _without(value, keys):
    if isinstance(value, dict):
        return {name: _without(inner, keys) for name, inner in value.items() if name not in keys}
    if isinstance(value, list):
        return [_without(inner, keys) for inner in value]
    return value


def _state(data: bytes) -> bytes:
    """Return a training's state without how long its steps took, and the sum over that."""
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])
    said = head["__metadata__"]
    facts = _without(json.loads(said["facts"]), SECONDS)
    head["__metadata__"] = {**said, "facts": facts, "checksum": ""}
    return json.dumps(head).encode() + data[8 + size :]


def rows_of(store: Path) -> list[tuple]:
    """Return the rows of a feature store, as SQLite has them after a kill or a cut."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy.sqlite"
        shutil.copyfile(store, copy)
        for end in ("-wal", "-journal"):  # what SQLite goes by after a kill or a cut
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{store}{end}", f"{copy}{end}")
        with closing(sqlite3.connect(copy)) as connection:
            checked = connection.execute("PRAGMA integrity_check").fetchone()[0]
            assert checked == "ok", checked
            with suppress(sqlite3.OperationalError):  # killed before there was a table
                return sorted(connection.execute("SELECT * FROM feature"))
    return []


def faults(folder: Path, datasets) -> list[str]:
    """Say what a reader would find that is not whole, whatever has just ended how.

    Args:
        folder: Where to look.
        datasets: Names of folders in it that are whole datasets or absent, and those beside them
            that hold their earlier versions.
    """
    said = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or TEMPORARY.search(name):
            continue
        try:
            _read(path)
        except Exception as error:
            said.append(f"{name} is not whole: {type(error).__name__}: {error}")
    for name in datasets:
        kept = (folder / f"{name}.versions").glob("v*")
        for dataset in [folder / name, *kept]:
            if dataset.is_dir() and (damaged := damage(dataset)):
                said.append(f"{dataset.relative_to(folder)} is half a dataset: {damaged}")
    return said


def earlier(folder: Path, datasets, every: bool = False) -> dict[str, str]:
    """Return the lists of checksums of whole datasets.

    Args:
        folder: Where to look.
        datasets: Names of folders in it.
        every: Also of the versions kept beside them.
    """
    places = [
        place
        for name in datasets
        for place in [
            folder / name, *((folder / f"{name}.versions").glob("v*") if every else ())
        ]
    ]  # fmt: skip
    return {
        place.relative_to(folder).as_posix(): (place / "SHA256SUMS").read_text()
        for place in places
        if place.is_dir() and not damage(place)
    }


def _read(path: Path) -> None:
    """Read a file as whoever wants it would."""
    data = path.read_bytes() if not path.name.endswith(("-wal", "-shm")) else b""
    text = data.decode(errors="replace")
    match path.suffix:
        case ".png" | ".jpg":
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        case ".json":
            json.loads(text)
        case ".jsonl" if path.name != "times.jsonl":  # it is only ever added to, and says so
            assert text.endswith("\n")
            for line in text.splitlines():
                json.loads(line)
        case ".toml":
            tomllib.loads(text)
        case ".parquet":
            pl.read_parquet(io.BytesIO(data))
        case ".safetensors":
            from safetensors.torch import load

            assert load(data)
        case ".sqlite":
            rows_of(path)
        case ".html" | ".svg":
            assert text.rstrip().endswith(f"</{path.suffix[1:]}>")
        case ".md" | ".txt":
            assert text


def left_over(folder: Path) -> list[str]:
    """Return the temporary files and folders below a folder."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if TEMPORARY.search(name))
