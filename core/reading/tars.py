"""Tar files, and among them shards of WebDataset: images with what is said of them, unpacked.

In a shard the files of one sample share a key, which is their name up to the first dot behind the
last slash: ``0001.jpg``, ``0001.txt``, ``0001.json``. Text is a caption, and so is what a JSON says
under ``caption``, ``text`` or ``prompt``, where there is no text.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..json_text import parse
from ..plain_files import plain, plain_text
from .kinds import CAPTION_SUFFIXES, is_image_name
from .masks import MARK

SUFFIXES = (".tar", ".tar.gz", ".tgz")
LEFT_OUT_FILE = ".left-out.json"
"""In an unpacked folder: how many entries were left out, by the reason."""
MASK_END = ".mask.png"
"""The end of a mask's name in a shard."""

_CAPTION_KEYS = ("caption", "text", "prompt")
_LONGEST_JSON = 1 << 20
_LONGEST_PART, _LONGEST_NAME = 200, 1024
"""Bytes; some room is left for the ends of masks and captions, and for the folder above."""
_HALF = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no file takes."""
_BLOCK = tarfile.BLOCKSIZE
_HEADERS = 1 << 20
"""The most bytes that may be said of one entry, and in front of all: its reader keeps them."""

LINK, TWICE, OUTSIDE = "links or devices", "there twice", "named as no file below a folder is"
"""Why an entry is left out."""


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

    Links, devices and sparse files are left out, and so are names that lead out of the folder or
    are too long, and those that were there before; how many is written beside the images. Whatever
    else a tar file holds is an empty file of its name, so that it is counted.

    Args:
        archive: The tar file, compressed or not.
        target: The folder.
        parts_of: From an entry's name to safe ones; empty for what is left out.
        check: Refuses an entry: is given its name, its size, and all sizes so far with it.

    Raises:
        TarDamagedError: It is damaged.
        tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError: The same.
    """
    state, total = _Unpacking(target), 0
    with open(archive, "rb", opener=plain) as file, _opened(file) as opened:
        while (member := opened.next_entry()) is not None:
            total += member.size
            check(member.name, member.size, total)
            if member.isdir():
                continue
            if not member.isreg() or member.sparse is not None:
                state.left_out[LINK] += 1
                continue
            parts = parts_of(member.name)
            if not parts:
                state.left_out[OUTSIDE] += is_no_name(member.name)
                continue
            source = opened.extractfile(member)
            if source is not None:
                _write(state, parts, source, member.size)
        _check_end(opened)
    _add_captions(state)
    write_left_out(target, state.left_out)


class _Bounded:
    """What a tar file's reader reads: it asks for as many bytes as a header claims, at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left: int | None = _HEADERS
        """How many bytes may be read; any number where it is ``None``."""
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            self.left -= size
            if size < 0 or self.left < 0:
                raise TarDamagedError("what is said of an entry is longer than any that is one")
        data: bytes = self._file.read(size)
        return data


class _TarFile(tarfile.TarFile):
    """A tar file, compressed or not, whose headers are read in bounded memory."""

    @classmethod
    def taropen(cls, name: Any, mode: Any = "r", fileobj: Any = None, **options: Any) -> _TarFile:
        bounded: Any = _Bounded(fileobj)
        return super().taropen(name, mode, bounded, **options)

    def next_entry(self) -> tarfile.TarInfo | None:
        """Return the next entry, and forget those before."""
        reader: Any = self
        reader.fileobj.left = _HEADERS
        found = self.next()
        reader.fileobj.left = None
        reader.members.clear()
        if sum(map(len, self.pax_headers.values())) > _HEADERS:
            raise TarDamagedError("what is said of all entries is longer than any that is one")
        return found


def _opened(file: IO[bytes]) -> _TarFile:
    try:
        return _TarFile.open(fileobj=file)
    except tarfile.ReadError as error:
        raise TarDamagedError("it is no tar file, compressed or not") from error


def is_no_name(name: str) -> bool:
    """Whether an entry's name leads out of a folder, or is longer than those of files are."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ".." in parts or is_too_long(parts)


def is_too_long(parts: Sequence[str]) -> bool:
    """Whether parts of a name are longer than file systems have them."""
    sizes = [len(part.encode("utf-8", "replace")) for part in parts]
    return max(sizes, default=0) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_NAME


def write_left_out(folder: Path, counts: Mapping[str, int]) -> None:
    """Write into an unpacked folder how many entries were left out, by the reason."""
    found = {reason: count for reason, count in sorted(counts.items()) if count}
    if found:
        (folder / LEFT_OUT_FILE).write_text(json.dumps(found), encoding="utf-8")


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
    texts = (text.strip() for text in found if isinstance(text, str))
    return next((text for text in texts if text and not _HALF.search(text)), "")


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
