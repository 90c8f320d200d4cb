"""SHA-256 of every file, in the format that ``sha256sum -c`` reads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from .. import atomic
from ..counts import how_many, worded
from ..errors import CuratorError
from ..imageset import content_hash
from ..naming import first_of
from ..plain_files import plain_bytes, plain_text
from ..reading.own import CHECKSUMS_FILE, is_dataset
from .verdict import ADDED_TO, LATER, exported_hash

FILE_NAME = CHECKSUMS_FILE
_LINE = re.compile(r"[0-9a-f]{64}  .+")
_LONGEST = 255
"""The most bytes that systems let a name have."""


class NotADatasetError(CuratorError):
    """A folder is not an exported dataset."""

    def __init__(self, root: Path, missing: str, reason: str = "") -> None:
        what = f"its {missing} can't be used ({reason})" if reason else f"it has no {missing}"
        super().__init__(
            f"{root} is not a whole dataset: {what}. Name the folder that an export wrote, or "
            "export again: an interrupted export is then finished or undone."
        )


@dataclass(frozen=True)
class Verification:
    """What a check of every file found.

    Attributes:
        checked: How many files the list names.
        missing: Listed files that are not there.
        changed: Listed files whose bytes differ.
        unlisted: Files beside them that the list does not name, without those of
            :mod:`.verdict`, which come later.
    """

    checked: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unlisted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every listed file is there and unchanged."""
        return not self.missing and not self.changed


def digests_of(root: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the SHA-256 of every file in ``root`` that a list names.

    Args:
        root: The folder.
        known: Digests that were computed already, by file name.
    """
    digests = dict(known or {})
    return {name: digests.get(name) or content_hash(root / name) for name in sorted(_files(root))}


def write_checksums(root: Path, known: Mapping[str, str] | None = None) -> None:
    """Write the list for every file in ``root``; arguments as for :func:`digests_of`."""
    write_list(root, digests_of(root, known))


def write_list(root: Path, digests: Mapping[str, str]) -> None:
    """Write the list of these digests, by file name, when all that it names is on the disk."""
    atomic.sync_tree(root)
    _write(root, digests)


def _write(root: Path, digests: Mapping[str, str]) -> None:
    atomic.write_text(root / FILE_NAME, list_text(digests))


def list_text(digests: Mapping[str, str]) -> str:
    """Return the list of these digests, by file name, as it is written."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def read_checksums(root: Path) -> dict[str, str]:
    """Return the digest of each listed file.

    Raises:
        NotADatasetError: There is no list, or it names what can be no file of the folder.
    """
    try:
        lines = plain_text(root / FILE_NAME).split("\n")
    except (FileNotFoundError, NotADirectoryError):
        raise NotADatasetError(root, FILE_NAME) from None
    except UnicodeDecodeError as error:
        raise NotADatasetError(root, FILE_NAME, str(error)) from None
    listed = {line[66:]: line[:64] for line in lines if line}
    if not all(_LINE.fullmatch(line) for line in lines if line):
        raise NotADatasetError(root, FILE_NAME, "a line of it is no checksum and name")
    for name in listed:
        if not is_within(name):
            reason = f"it names '{name[:80]}', which is no file of the folder"
            raise NotADatasetError(root, FILE_NAME, reason)
    return listed


def is_within(name: str) -> bool:
    """Whether a name is that of a file below a folder, which leads nowhere else."""
    parts = name.split("/")
    plain = not any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > _LONGEST
                    for part in parts)  # fmt: skip
    if not plain or "\0" in name or len(name) > _LONGEST * 8:
        return False
    return os.name != "nt" or not ("\\" in name or PureWindowsPath(name).drive)


def exported_checksums(root: Path) -> dict[str, str]:
    """Return the digests of a dataset as it was exported, without what has been added since then.

    Raises:
        NotADatasetError: There is no list.
    """
    listed = read_checksums(root)
    for name in ADDED_TO:
        path = root / name
        if name in listed and path.is_file() and content_hash(path) == listed[name]:
            listed[name] = exported_hash(path)
    return listed


def add_later(root: Path, name: str, change: Callable[[str], str]) -> bool:
    """Change the card or the report of a dataset, and its place in the list with it.

    Whenever that ends, the file is as the list says or as it was exported with something added:
    see :func:`is_listed`.

    Args:
        root: The dataset.
        name: The file.
        change: From its text to the new one.

    Returns:
        False where the file is not there, or not as listed: one that somebody has edited is left
        as it is, and so stays known as changed.
    """
    path, listed = root / name, read_checksums(root)
    if not path.is_file() or name not in listed or not is_listed(path, listed[name]):
        return False
    before = plain_bytes(path).decode("utf-8")
    after = change(before)
    if after != before:
        _write(root, {**listed, name: exported_hash(path)})
        atomic.write_text(path, after)
    if listed[name] != (digest := hashlib.sha256(after.encode()).hexdigest()):
        _write(root, {**listed, name: digest})
    return True


def is_listed(path: Path, digest: str) -> bool:
    """Return whether a file's bytes are as listed.

    What is added to card and report later comes in two steps, first the file and then the list. In
    between, the list has the file as it was exported.

    Args:
        path: The file.
        digest: From the list.
    """
    if content_hash(path) == digest:
        return True
    return path.name in ADDED_TO and exported_hash(path) == digest


def verify(root: Path | str) -> Verification:
    """Read every file of a dataset again and compare it with the list.

    Raises:
        NotADatasetError: There is no list.
    """
    folder = Path(root)
    expected = read_checksums(folder)
    present = set(_files(folder))
    there = [name for name in expected if name in present]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = dict(zip(there, pool.map(content_hash, (folder / n for n in there)), strict=True))
    return Verification(
        checked=len(expected),
        missing=tuple(sorted(set(expected) - present)),
        changed=tuple(
            sorted(
                name
                for name in there
                if found[name] != expected[name] and not is_listed(folder / name, expected[name])
            )
        ),
        unlisted=tuple(sorted(present - set(expected))),
    )


def unlike_export(root: Path) -> tuple[str, ...]:
    """Say what of a dataset is not as it was exported; empty for nothing, and for other folders."""
    if not is_dataset(root):
        return ()
    try:
        found = verify(root)
    except NotADatasetError as error:
        return (str(error),)
    names = [*found.missing, *found.changed]
    if not names:
        return ()
    listed = first_of(names)
    return (
        f"{len(names):,} of {how_many(found.checked, 'file')} of {root} "
        f"{worded(len(names), 'is', 'are')} gone or changed since its export "
        f"({listed}); it is taken as it is.",
    )


def _files(root: Path) -> Iterable[str]:
    for path in root.rglob("*"):
        if path.is_file() and path.name not in (FILE_NAME, *LATER):
            yield path.relative_to(root).as_posix()
