"""Captions beside images, in whatever encoding an editor has written them."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CuratorError
from ..plain_files import plain_bytes
from .kinds import CAPTION_SUFFIXES

UTF_8 = "UTF-8"

_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
MOST_BYTES = 1 << 20
"""The longest caption in bytes; what is larger is something else under a caption's name."""

_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_PAIR = re.compile(
    rb"(?<![\x80-\xff])(?:(?<=[A-Za-z])[\xdf-\xf6\xf8-\xff]{2}(?![\x80-\xff])"
    rb"|[\xdf-\xf6\xf8-\xff]{2}(?=[A-Za-z]))"
)
"""Two small letters within a word, as in 'Größe'."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")


class UnreadCaptionError(CuratorError):
    """A caption lies beside an image, and is not read."""


class UnknownEncodingError(UnreadCaptionError):
    """A text file is in an encoding that is not recognised, or far too long for a caption."""

    def __init__(self, path: Path, size: int = 0) -> None:
        what = "is no plain text in UTF-8, UTF-16, UTF-32 or Windows' Western encoding"
        mend = "Save it as UTF-8, without control characters."
        if size > MOST_BYTES:
            what, mend = f"is no caption: it has {size:,} bytes", "Take it away, or shorten it."
        super().__init__(f"The caption {path} {what}. {mend}")


class CaptionElsewhereError(UnreadCaptionError):
    """A caption is a link to a file that lies elsewhere, which may be anything of the user's."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The caption {path} is a link out of its folder, and is not followed. Put a copy in "
            "its place if you want what it leads to."
        )


@dataclass(frozen=True)
class Caption:
    """A caption that somebody has written beside an image.

    Attributes:
        text: In one line; may be empty.
        file: Its file.
        encoding: In which it was, such as ``UTF-8`` or ``UTF-16``.
    """

    text: str
    file: Path
    encoding: str


def decoded(data: bytes) -> tuple[str, str] | None:
    """Decode the bytes of a text file.

    Byte order marks decide first. Without one it is UTF-8 if that is possible, UTF-16 if every
    other byte of a text with Latin letters is zero, and Windows' Western encoding (cp1252) if the
    letters beyond ASCII stand alone, or two within a word, as in Western languages: in an East
    Asian encoding they stand in runs, and cp1252 would make garbage of it.

    Returns:
        The text and the name of the encoding; ``None`` if it is none of these, or longer than
        :data:`MOST_BYTES`.
    """
    if len(data) > MOST_BYTES:
        return None
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return _tried(data, codec, name)
    if b"\0" in data:
        even, odd = data[0::2].count(0), data[1::2].count(0)
        codec = "utf-16-le" if odd > even else "utf-16-be"
        return _tried(data, codec, "UTF-16")
    return _tried(data, "utf-8", UTF_8) or (
        _tried(data, "cp1252", "Windows-1252") if _is_western(data) else None
    )


def _tried(data: bytes, codec: str, name: str) -> tuple[str, str] | None:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else (text, name)


def _is_western(data: bytes) -> bool:
    runs = [len(run.group()) for run in _HIGH_RUN.finditer(data)]
    together = sum(n for n in runs if n > 1) - 2 * len(_PAIR.findall(data))
    return together * 2 <= sum(runs)


def caption_file(image: Path) -> Path | None:
    """Return the caption's file beside an image, ``IMAGE.txt`` before ``IMAGE.caption``."""
    for suffix in CAPTION_SUFFIXES:
        path = image.with_suffix(suffix)
        if path.is_file():
            return path
    return None


def read_text(path: Path) -> Caption:
    """Read a caption's file.

    Raises:
        UnknownEncodingError: It is in no encoding that is recognised.
        OSError: It cannot be read.
    """
    data = plain_bytes(path)
    found = decoded(data)
    if found is None:
        raise UnknownEncodingError(path, len(data))
    text, encoding = found
    return Caption(" ".join(text.split()), path, encoding)


def beside(image: Path) -> Caption | None:
    """Return the caption that lies beside an image, if one does.

    Raises:
        UnknownEncodingError: It is in no encoding that is recognised.
        CaptionElsewhereError: It is a link to another folder than the image's.
        OSError: It cannot be read.
    """
    path = caption_file(image)
    if path is not None and leads_elsewhere(path, image):
        raise CaptionElsewhereError(path)
    return None if path is None else read_text(path)


def leads_elsewhere(caption: Path, image: Path) -> bool:
    """Whether a caption is a link out of its folder, other than to where its image leads too.

    Whoever gave us the folder may have put links to files of ours into it, and captions are
    published; folders of links to images and their captions are usual.
    """
    if not caption.is_symlink():
        return False
    place = caption.resolve().parent
    return place not in (caption.parent.resolve(), image.resolve().parent)
