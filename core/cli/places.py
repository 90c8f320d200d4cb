"""Addresses and packed images on the command line, in the place of folders and files."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stores.addresses import AddressError, is_address, shown
from ..stores.cache import LIMIT_VARIABLE, bytes_of
from .output import progress_on, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..stores.staging import Staged

_BROKEN = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]", re.I)


class Input(str):
    """An address that is read, or the name of packed images."""

    __slots__ = ()


class Dataset(str):
    """An address that a dataset is written to."""

    __slots__ = ()


class File(str):
    """An address that a file is written to."""

    __slots__ = ()


def input_path(text: str) -> Path | Input:
    """Return what an option names that is read: a path, or an address or packed images."""
    return Input(text) if is_address(text) else Path(text)


def dataset_path(text: str) -> Path | Dataset:
    """Return what an option names that a dataset is written to."""
    return Dataset(text) if is_address(text) else Path(text)


def file_path(text: str) -> Path | File:
    """Return what an option names that a file is written to."""
    return File(text) if is_address(text) else Path(text)


@dataclass
class Pending:
    """What is uploaded when a command is done."""

    staged: list[Staged] = field(default_factory=list)

    def upload(self, console: Console, result: Any) -> Any:
        """Upload it, and say so in the command's result."""
        for one in self.staged:
            with progress_on(console) as progress:
                done = one.upload(progress)
            console.print(done.in_words, soft_wrap=True, markup=False, highlight=False)
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
    """
    pending = Pending()
    with _limited(getattr(options, "cache_limit", None)):
        for name, value in list(vars(options).items()):
            if isinstance(value, Input):
                setattr(options, name, _copy(value, console))
            elif isinstance(value, list) and any(isinstance(one, Input) for one in value):
                found = [_copy(v, console) if isinstance(v, Input) else v for v in value]
                setattr(options, name, found)
            elif isinstance(value, Dataset | File):
                from ..stores.staging import stage

                with progress_on(console) as progress:
                    made = stage(value, dataset=isinstance(value, Dataset), progress=progress)
                pending.staged.append(made)
                setattr(options, name, made.path)
            elif isinstance(value, Path) and _BROKEN.match(str(value)):
                raise AddressError(
                    f"'--{name.replace('_', '-')}' takes no address ({shown(str(value))}). Copy "
                    "what is there to a folder first, or name one."
                )
        yield pending


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


def _copy(address: str, console: Console) -> Path:
    from ..stores.mirror import mirror

    with progress_on(console) as progress:
        copy = mirror(address, whole=True, progress=progress)
    say(console, copy.notes)
    say(console, [f"{name}: {reason}" for name, reason in copy.faults.items()][:_SHOWN])
    if len(copy.faults) > _SHOWN:
        say(console, [f"{len(copy.faults)} objects of {copy.address} could not be had."])
    return copy.path


_SHOWN = 5
