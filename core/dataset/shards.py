"""A dataset as shards of WebDataset: tar files that a training on many machines reads in order.

Of each image there are its file, its caption (``.txt``) and what is known of it (``.json``), all
under one key, and where it has a mask that too (``.mask.png``). The same dataset and options write
the same bytes. The tar files are written with Python's own library: WebDataset's writer adds no
more than a loop over it, and would be one library more in everybody's environment.

Beside the shards lies ``index.json``, in the form of WebDataset's own indexed reader (``wids``):
each shard with its number of samples, size, and checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .. import atomic
from ..counts import how_many, worded
from ..errors import CuratorError
from ..json_text import parse
from ..naming import first_of, portable, slug, table_name
from ..plain_files import plain_text
from ..progress import Progress, silent
from ..reading.folders import EmptyFolderError, list_sources
from ..reading.kinds import others_in_words
from ..reading.opening import DamagedError, decoding, opened
from ..reading.tars import MASK_END
from .checksums import is_within, unlike_export
from .sidecars import read_caption, read_metadata

INDEX_FILE = "index.json"
DEFAULT_SIZE = "1GB"
SMALLEST = 20_480
"""The least size of a shard, in bytes."""

_BLOCK = tarfile.BLOCKSIZE
_MOST = 1_000_000
_KIND = "wids-shard-index-v1"
_OF_THE_FILE = ("file_name", "caption")
_OF_A_SHARD = {"url", "sha256"}
_EXACT = 2**53
"""Whole numbers up to this are exact as floating-point numbers."""
_DOT = re.compile(r"[.\s]+")


class ShardsError(CuratorError):
    """Shards cannot be written so."""


@dataclass(frozen=True)
class Shards:
    """Shards on the disk.

    Attributes:
        folder: Where they lie, with their index.
        shards: How many they are.
        samples: How many images they hold together.
        size_bytes: Their size together.
        unchanged: The folder held the same already, and was left as it was.
        notes: What is to be said of them, a sentence each.
    """

    folder: Path
    shards: int
    samples: int
    size_bytes: int
    unchanged: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sample:
    """What a shard says of one image: ends of names, and files or bytes."""

    key: str
    members: tuple[tuple[str, Path | bytes], ...]


def write_shards(
    dataset: Path | str,
    output: Path | str,
    *,
    count: int | None = None,
    size: int = 10**9,
    progress: Progress = silent,
) -> Shards:
    """Write a dataset as shards of WebDataset; the folder appears when it is whole.

    Args:
        dataset: An exported dataset, or any folder of images with captions beside them.
        output: The folder to write; not there yet, or with the same shards.
        count: At least so many shards, with as many images each as can be; 1 unless given.
        size: The most bytes of a shard's file. An image that is larger is a shard by itself.
        progress: Watches.

    Raises:
        ShardsError: The number or the size makes no sense, or something else lies there.
        EmptyFolderError: There is no image.
        WriteError: The disk is full, or the folder cannot be written.
    """
    root, target = Path(dataset).expanduser(), Path(output).expanduser().absolute()
    if size < SMALLEST:
        raise ShardsError(f"Shards of {size:,} bytes are too small: at least {SMALLEST:,}.")
    samples, notes = _samples(root)
    wanted = count or 1
    if not 1 <= wanted <= min(len(samples), _MOST):
        raise ShardsError(
            f"{how_many(wanted, 'shard')} of {how_many(len(samples), 'image')} cannot be: from 1 "
            f"to {len(samples)}."
        )
    name = slug(root.resolve().name)
    if target.is_dir() and any(target.iterdir()):
        return _compared(samples, name, target, wanted, size, notes, progress)
    if target.is_dir():
        target.rmdir()
    with atomic.filling(target) as making:
        index = _write(samples, name, making, wanted, size, progress)
    return _result(target, index, size, notes)


def _compared(
    samples: Sequence[_Sample],
    name: str,
    target: Path,
    count: int,
    size: int,
    notes: tuple[str, ...],
    progress: Progress,
) -> Shards:
    """Return what lies in a folder, where that is what would be written."""
    there = _index_in(target)
    made = target.with_name(f".{target.name}.compared")
    if there is None:
        raise ShardsError(f"{target} holds other files. Name a new or an empty folder.")
    with atomic.filling(made) as making:
        index = _write(samples, name, making, count, size, progress)
    shutil.rmtree(made)
    whole = all(_digests(target / one["url"])[1] == one["sha256"] for one in there["shardlist"])
    if index != there or not whole:
        raise ShardsError(
            f"{target} holds other shards, or damaged ones. Name a new or an empty folder, so that "
            "nobody reads half of each."
        )
    return _result(target, index, size, notes, unchanged=True)


def _index_in(folder: Path) -> dict[str, Any] | None:
    try:
        values = parse(plain_text(folder / INDEX_FILE))
        is_one = values["__kind__"] == _KIND
        names = [str(one["url"]) for one in values["shardlist"] if one.keys() >= _OF_A_SHARD]
        is_one = is_one and len(names) == len(values["shardlist"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    plain = all("/" not in n and is_within(n) and (folder / n).is_file() for n in names)
    return dict(values) if is_one and plain else None


def _result(
    target: Path,
    index: Mapping[str, Any],
    size: int,
    notes: tuple[str, ...],
    *,
    unchanged: bool = False,
) -> Shards:
    shards = index["shardlist"]
    large = sum(one["filesize"] > size for one in shards)
    if large:
        notes += (
            f"{how_many(large, 'shard is', 'shards are')} larger than {size:,} bytes: the "
            f"one image in {worded(large, 'it', 'each')} is.",
        )
    return Shards(
        target,
        len(shards),
        sum(one["nsamples"] for one in shards),
        sum(one["filesize"] for one in shards),
        unchanged,
        notes,
    )


def _samples(root: Path) -> tuple[list[_Sample], tuple[str, ...]]:
    listing = list_sources([root])
    masks = dict(listing.masks)
    faults = {name: _fault(root / name) for name in (*listing.names, *masks.values())}
    names = [name for name in listing.names if not faults[name]]
    if not names:
        raise EmptyFolderError(root, others_in_words(listing.others))
    known = {name: _writable(values) for name, values in read_metadata(root).items()}
    captions = [read_caption(root / name, known.get(name, {})) for name in names]
    told = _told(names, captions, known)
    samples: list[_Sample] = []
    taken: set[str] = set()
    for name, caption, values in zip(names, captions, told, strict=True):
        key = _key(name, taken)
        members: list[tuple[str, Path | bytes]] = [
            (PurePosixPath(name).suffix.lower(), root / name),
            (".json", (json.dumps(values, ensure_ascii=False) + "\n").encode()),
        ]
        if name in masks and not faults[masks[name]]:
            members.append((MASK_END, root / masks[name]))
        if caption:
            members.append((".txt", (caption + "\n").encode()))
        samples.append(_Sample(key, tuple(members)))
    return samples, (*unlike_export(root), *_left_out(faults), *_notes(samples))


def _fault(path: Path) -> str:
    """Return why a file cannot be opened as an image, by its header; empty where it can."""
    try:
        with decoding(), opened(path):
            return ""
    except (OSError, DamagedError) as error:
        is_no_image = "cannot identify image file" in str(error)
        return "not an image, whatever its name says" if is_no_image else str(error)


def _left_out(faults: Mapping[str, str]) -> Iterator[str]:
    """Say which files are in no shard."""
    found = [f"{name} ({reason})" for name, reason in faults.items() if reason]
    if found:
        listed = first_of(found)
        what = how_many(
            len(found),
            "file cannot be opened as an image, and is",
            "files cannot be opened as images, and are",
        )
        yield f"{what} left out: {listed}."


def _writable(value: Any) -> Any:
    """Return a value as JSON of any reader has it: no infinite numbers, no halves of characters."""
    if isinstance(value, dict):
        return {_writable(str(name)): _writable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _notes(samples: Sequence[_Sample]) -> tuple[str, ...]:
    notes = []
    bare = sum(all(end != ".txt" for end, _ in one.members) for one in samples)
    if bare:
        notes.append(
            f"{bare:,} of {how_many(len(samples), 'image')} {worded(bare, 'has', 'have')} no "
            "caption, and no .txt in the shards."
        )
    kinds = Counter(" ".join(sorted(end for end, _ in one.members)) for one in samples)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} with {ends}" for ends, count in sorted(kinds.items()))
        notes.append(
            f"Not all samples have files of the same ends ({listed}): WebDataset reads them, "
            "Hugging Face's reader wants them alike."
        )
    return tuple(notes)


def _key(name: str, taken: set[str]) -> str:
    """Return an image's key: its name without its end, and without dots, which would divide it."""
    folder, slash, last = name.rpartition("/")
    stem = _DOT.sub("-", last.rpartition(".")[0]).strip("-") or "image"
    folder = table_name(folder)
    stem = table_name(portable(stem))
    key, number = folder + slash + stem, 1
    while key.lower() in taken:
        number += 1
        key = f"{folder}{slash}{stem}-{number}"
    taken.add(key.lower())
    return key


def _told(
    names: Sequence[str], captions: Sequence[str], known: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what the JSON of each image says, with the same keys and types in all of them.

    What every image has, of one type, is a key of its own; whatever else is known of an image is
    JSON within ``more``: readers that make a table of shards fix its columns by the first ones.
    """
    entries = [{k: v for k, v in known.get(n, {}).items() if k not in _OF_THE_FILE} for n in names]
    kinds = {key: {type(entry.get(key)) for entry in entries} for entry in entries for key in entry}
    shared = sorted(
        key
        for key, found in kinds.items()
        if found in ({str}, {int}, {float}, {bool}) or found == {int, float}
    )
    floats = {key for key in shared if float in kinds[key]}
    wide = {key for key in floats for entry in entries if abs(entry[key]) > _EXACT}
    shared, floats = [key for key in shared if key not in wide], floats - wide
    told = []
    for name, caption, entry in zip(names, captions, entries, strict=True):
        row: dict[str, Any] = {"file_name": table_name(name), "caption": caption}
        row |= {key: float(entry[key]) if key in floats else entry[key] for key in shared}
        more = {key: value for key, value in sorted(entry.items()) if key not in shared}
        row["more"] = json.dumps(more, ensure_ascii=False, sort_keys=True)
        told.append(row)
    return told


def _write(
    samples: Sequence[_Sample], name: str, folder: Path, count: int, size: int, progress: Progress
) -> dict[str, Any]:
    """Write the shards and their index; return the index."""
    progress.start("Writing shards", len(samples))
    shards = []
    for number, members in enumerate(_divided(samples, count, size, progress)):
        path = folder / f"{name}-{number:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as made:
            for end, data in members:
                with _opened(data) as source:
                    made.addfile(_member(end, _size(data)), source)
        md5, sha256 = _digests(path)
        shards.append(
            {
                "url": path.name,
                "nsamples": sum(end.endswith(".json") for end, _ in members),
                "filesize": path.stat().st_size,
                "md5sum": md5,
                "sha256": sha256,
            }
        )
    progress.finish()
    index = {"__kind__": _KIND, "wids_version": 1, "name": name, "shardlist": shards}
    text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
    (folder / INDEX_FILE).write_text(text, encoding="utf-8", newline="\n")
    return index


def _divided(
    samples: Sequence[_Sample], count: int, size: int, progress: Progress
) -> Iterator[list[tuple[str, Path | bytes]]]:
    """Deal samples out to shards, in their order: names and contents, one after the other."""
    shard: list[tuple[str, Path | bytes]] = []
    filled, part = 0, 0
    for place, sample in enumerate(samples):
        files = [
            (sample.key + end, data)
            for end, data in sorted(sample.members, key=lambda member: member[0])
        ]
        needed = sum(
            len(_member(name, _size(data)).tobuf()) + -(-_size(data) // _BLOCK) * _BLOCK
            for name, data in files
        )
        turn = place * count // len(samples)
        if shard and (turn != part or _as_file(filled + needed) > size):
            yield shard
            shard, filled = [], 0
        part = turn
        shard += files
        filled += needed
        progress.advance(1, sample.key)
    yield shard


def _as_file(size: int) -> int:
    """Return how large a tar file with so many bytes of entries is."""
    return -(-(size + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # no date, no owner: the same bytes wherever it is made
    member.size, member.mode = size, 0o644
    return member


def _size(data: Path | bytes) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _opened(data: Path | bytes) -> IO[bytes]:
    return io.BytesIO(data) if isinstance(data, bytes) else data.open("rb")


def _digests(path: Path) -> tuple[str, str]:
    """Return the MD5 that WebDataset's index has, and the SHA-256, of a file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()
