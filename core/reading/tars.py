"""Tar files, and among them shards of WebDataset: images with what is said of them, unpacked.

In a shard the files of one sample share a key, which is their name up to the first dot behind the
last slash: ``0001.jpg``, ``0001.txt``, ``0001.json``. Text is a caption, and so is what a JSON says
under ``caption``, ``text`` or ``prompt``, where there is no text.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..json_text import parse
from ..plain_files import plain_text
from .kinds import CAPTION_SUFFIXES, is_image_name
from .masks import MARK

SUFFIXES = (".tar", ".tar.gz", ".tgz")
LEFT_OUT_FILE = ".left-out.json"
"""In an unpacked folder: how many entries were left out, by the reason."""
MASK_END = ".mask.png"
"""The end of a mask's name in a shard."""

_CAPTION_KEYS = ("caption", "text", "prompt")
_LONGEST_JSON = 1 << 20
_BLOCK = tarfile.BLOCKSIZE

LINK, TWICE, OUTSIDE = "links or devices", "there twice", "named as no file below a folder is"


class TarDamagedError(ValueError):
    """A tar file ends too soon, or goes on with what is no entry."""


@dataclass
class _Unpacking:
    """What has been seen of a tar file.

    Attributes:
        target: The folder.
        written: Names that are taken, in small letters, as some file systems have it.
        images: The unpacked images.
        texts: Keys and stems that have a caption of their own.
        captions: What a JSON says of its key, and its own name.
        left_out: How many entries were left out, by the reason.
    """

    target: Path
    written: set[str] = field(default_factory=set)
    images: list[Path] = field(default_factory=list)
    texts: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, tuple[str, Path]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def is_tar_name(name: str) -> bool:
    """Whether a file's name says that it is a tar file."""
    return name.lower().endswith(SUFFIXES)


def key_of(name: str) -> str:
    """Return the key of a file in a shard: its name up to the first dot behind the last slash."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def unpack_tar(
    archive: Path,
    target: Path,
    parts_of: Callable[[str], tuple[str, ...]],
    check: Callable[[str, int, int], None],
) -> None:
    """Unpack images and captions of a tar file into an empty folder.

    Links, devices and sparse files are left out, and so are names that lead out of the folder and
    those that were there before; how many is written beside the images. Whatever else a tar file
    holds is an empty file of its name, so that it is counted.

    Args:
        archive: The tar file, compressed or not.
        target: The folder.
        parts_of: From an entry's name to safe ones; empty for what is left out.
        check: Refuses a file: is given its name, its size, and all sizes so far with it.

    Raises:
        TarDamagedError: It is damaged.
        tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError: The same.
    """
    state, total = _Unpacking(target), 0
    with _opened(archive) as opened:
        for member in opened:
            if member.isdir():
                continue
            if not member.isreg() or member.sparse is not None:
                state.left_out[LINK] += 1
                continue
            parts = parts_of(member.name)
            if not parts:
                state.left_out[OUTSIDE] += _leads_out(member.name)
                continue
            total += member.size
            check(member.name, member.size, total)
            source = opened.extractfile(member)
            if source is not None:
                _write(state, parts, source, member.size)
        _check_end(opened)
    _add_captions(state)
    if state.left_out:
        text = json.dumps(dict(sorted(state.left_out.items())))
        (target / LEFT_OUT_FILE).write_text(text, encoding="utf-8")


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive)
    except tarfile.ReadError as error:
        raise TarDamagedError("it is no tar file, compressed or not") from error


def _leads_out(name: str) -> bool:
    return ".." in PurePosixPath(name.replace("\\", "/")).parts


def _write(state: _Unpacking, parts: tuple[str, ...], source: IO[bytes], size: int) -> None:
    name = "/".join(parts)
    if name.lower().endswith(MASK_END):
        name = f"{name[: -len(MASK_END)]}{MARK}.png"
    path = state.target / name
    if name.lower() in state.written or path.is_dir():
        state.left_out[TWICE] += 1
        return
    state.written.add(name.lower())
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json" and size <= _LONGEST_JSON:
        caption = _caption_in(source.read())
        if caption:
            state.captions[key_of(name)] = caption, path
            return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        state.left_out[TWICE] += 1
        return
    if not is_image_name(name) and suffix not in CAPTION_SUFFIXES:
        path.touch()
        return
    with path.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if path.stat().st_size != size:
        raise TarDamagedError(f"{name} ends too soon")
    if is_image_name(name):
        state.images.append(path)
    else:
        state.texts.setdefault(key_of(name), path)
        state.texts.setdefault(name[: -len(suffix)], path)


def _caption_in(data: bytes) -> str:
    try:
        values = parse(data.decode("utf-8"))
    except ValueError:
        return ""
    if not isinstance(values, dict):
        return ""
    found = (values.get(key) for key in _CAPTION_KEYS)
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")


def _add_captions(state: _Unpacking) -> None:
    """Let every image have the caption of its key beside it, where it has none of its own."""
    used = set()
    for image in state.images:
        name = image.relative_to(state.target).as_posix()
        own = image.with_suffix(CAPTION_SUFFIXES[0])
        if name[: -len(image.suffix)] in state.texts or own.exists():
            continue
        key = key_of(name)
        if key in state.texts:
            shutil.copyfile(state.texts[key], own)
        elif key in state.captions:
            used.add(key)
            own.write_text(state.captions[key][0] + "\n", encoding="utf-8", newline="\n")
    for key in state.captions.keys() - used:
        path = state.captions[key][1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # so that it is counted as what was not read


def _check_end(opened: tarfile.TarFile) -> None:
    """Insist that a tar file ends as tar files do: its reader takes any damage for the end."""
    file: Any = opened.fileobj
    file.seek(opened.offset)
    block = file.read(_BLOCK)
    if block and (len(block) < _BLOCK or block.strip(b"\0")):
        raise TarDamagedError(f"there is no entry at byte {opened.offset:,}, and no end")


def left_out_of(folder: Path) -> dict[str, int]:
    """Return how many entries were left out when a folder was unpacked, by the reason."""
    try:
        values = parse(plain_text(folder / LEFT_OUT_FILE))
        return {str(reason): int(count) for reason, count in values.items()}
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError):
        return {}
