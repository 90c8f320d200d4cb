"""Addresses and packed images on the command line, in the place of folders and files."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import check_place
from ..counts import how_many
from ..reading.folders import is_packed_name, packed_in
from ..stores.addresses import AddressError, addresses, is_address, shown
from ..stores.cache import LIMIT_VARIABLE, bytes_of
from ..stores.mirror import Mirrored
from .output import escape, progress_on, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..stores.staging import Kind, Staged

_SHOWN = 5
_WRITTEN = ("output", "html", "document", "tensorboard")
"""Options that name what a command writes."""
_BROKEN = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.I)


class Input(str):
    """An address that is read, or the name of packed images."""

    __slots__ = ()


class Folder(str):
    """An address of a folder whose captions are read and written."""

    __slots__ = ()


class Dataset(str):
    """An address that a dataset is written to."""

    __slots__ = ()


class Shards(str):
    """An address that a folder of shards is written to."""

    __slots__ = ()


class File(str):
    """An address that a file is written to."""

    __slots__ = ()


def input_path(text: str) -> Path | Input:
    """Return what an option names that is read: a path, or an address or packed images."""
    path = Path(text)
    try:
        packed = is_packed_name(text) and ("{" in text or path.is_file())
        return Input(text) if is_address(text) or packed or packed_in(path) != [path] else path
    except OSError:  # a name that no file can have, a folder that may not be read
        return path  # whoever reads it says so


def text_or_input(text: str) -> str:
    """Return a word, or the path of a folder, as it is; an address as one that is read."""
    return Input(text) if is_address(text) else text


def folder_path(text: str) -> Path | Folder:
    """Return what an option names whose captions are read and written."""
    return Folder(text) if is_address(text) else Path(text)


def dataset_path(text: str) -> Path | Dataset:
    """Return what an option names that a dataset is written to."""
    return Dataset(text) if is_address(text) else Path(text)


def shards_path(text: str) -> Path | Shards:
    """Return what an option names that shards are written to."""
    return Shards(text) if is_address(text) else Path(text)


def file_path(text: str) -> Path | File:
    """Return what an option names that a file is written to."""
    return File(text) if is_address(text) else Path(text)


_KINDS: dict[type, Kind] = {Dataset: "dataset", Shards: "folder", File: "file"}


@dataclass
class Pending:
    """What is uploaded when a command is done."""

    staged: list[Staged] = field(default_factory=list)
    edited: list[Mirrored] = field(default_factory=list)

    def upload(self, console: Console, result: Any) -> Any:
        """Upload it, and say so in the command's result."""
        from ..stores.staging import upload_captions

        uploads = [one.upload for one in self.staged]
        uploads += [partial(upload_captions, one) for one in self.edited]
        for upload in uploads:
            with progress_on(console) as progress:
                done = upload(progress)
            if not done.files:
                continue
            console.print(escape(done.in_words), soft_wrap=True, highlight=False)
            if isinstance(result, dict):
                told = {"address": done.address, "files": done.files, "sent": done.sent}
                result = {**result, "uploaded": [*result.get("uploaded", []), told]}
        return result


@contextmanager
def here(options: argparse.Namespace, console: Console) -> Iterator[Pending]:
    """Let addresses among a command's options be paths: copies, and places to write to.

    Yields:
        What is to be uploaded afterwards.

    Raises:
        AddressError: The command takes no address there.
        StoreError: A store refuses, does not answer, or has nothing there.
        WriteError: Nothing can be written where a result is to go.
    """
    pending = Pending()
    with _limited(getattr(options, "cache_limit", None)):
        for name, value in list(vars(options).items()):
            if isinstance(value, Input):
                setattr(options, name, _copy(value, console))
            elif isinstance(value, list) and any(isinstance(one, Input) for one in value):
                found = [_copy(v, console) if isinstance(v, Input) else v for v in value]
                setattr(options, name, found)
            elif isinstance(value, Folder):
                from ..stores.staging import begin_captions

                with progress_on(console) as progress:
                    copy = begin_captions(value, progress)
                _say(copy, console)
                pending.edited.append(copy)
                setattr(options, name, copy.path)
            elif type(value) in _KINDS:
                from ..stores.staging import stage

                with progress_on(console) as progress:
                    made = stage(value, _KINDS[type(value)], progress=progress)
                pending.staged.append(made)
                setattr(options, name, made.path)
            elif isinstance(value, Path) and _BROKEN.match(str(value)):
                raise AddressError(
                    f"'--{name.replace('_', '-')}' takes no address ({shown(str(value))}). Copy "
                    "what is there to a folder first, or name one."
                )
            elif isinstance(value, Path) and name in _WRITTEN:
                check_place(value)
        try:
            yield pending
        except BaseException:
            from ..stores.staging import end_captions

            for copy in pending.edited:
                end_captions(copy)
            raise


@contextmanager
def _limited(limit: str | None) -> Iterator[None]:
    """Let a limit of the copies hold in this process and in those that it starts."""
    if limit is None:
        yield
        return
    bytes_of(limit)
    before = os.environ.get(LIMIT_VARIABLE)
    os.environ[LIMIT_VARIABLE] = limit
    try:
        yield
    finally:
        if before is None:
            del os.environ[LIMIT_VARIABLE]
        else:
            os.environ[LIMIT_VARIABLE] = before


def _copy(text: str, console: Console) -> Path:
    """Return what is read in the place of addresses or packed images: a folder, or a file."""
    from ..hashing import content_hash, json_hash
    from ..reading.folders import SourceError, unpack
    from ..reading.tars import left_out_of
    from ..stores.cache import Cache, use

    paths = [_one(name, console) if is_address(text) else Path(name) for name in addresses(text)]
    files = [file for path in paths for file in packed_in(path)]
    if len(files) == 1 and not is_packed_name(files[0].name):
        return files[0]
    for file in files:
        if not (file.is_file() and is_packed_name(file.name)):
            raise SourceError(f"{shown(text)}: {file.name} is no zip or tar file. Name a folder.")
    content = json_hash([content_hash(file) for file in files])[:12]
    home = use(text, Cache.usual(), "unpacked") / f"unpacked-{content}"
    for folder in [unpack(file, home) for file in files]:
        say(
            console,
            [f"{folder.name}: {n} left out: {why}." for why, n in left_out_of(folder).items()],
        )
    return home


def _one(address: str, console: Console) -> Path:
    return _mirrored(address, console).path


def _mirrored(address: str, console: Console) -> Mirrored:
    from ..stores.mirror import mirror

    with progress_on(console) as progress:
        copy = mirror(address, whole=True, progress=progress)
    _say(copy, console)
    return copy


def _say(copy: Mirrored, console: Console) -> None:
    say(console, copy.notes)
    say(console, [f"{name}: {reason}" for name, reason in copy.faults.items()][:_SHOWN])
    if len(copy.faults) > _SHOWN:
        say(
            console, [f"{how_many(len(copy.faults), 'object')} of {copy.address} could not be had."]
        )
