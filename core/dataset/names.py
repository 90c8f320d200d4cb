"""File names for images from anywhere: safe for every reader, and the same every time."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..naming import portable
from ..reading.masks import MARK

STEM_BYTES = 180
"""The longest stem: trainers add suffixes such as ``_0768x0768_sd.npz`` within 255 bytes."""

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\[\]{}]')
# Hugging Face's imagefolder takes such a word in a file name for the name of a split, and would
# then load only the images that carry it.
_SPLIT_WORD = re.compile(
    r"(?:^|(?<=[-._ 0-9]))"
    r"(train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
    r"(?=[-._ 0-9]|$)",
    re.IGNORECASE,
)


def export_names(paths: Sequence[str], suffix: str = ".png") -> list[str]:
    """Name each image of a dataset.

    A name is kept as it is where possible, spaces and emoji included. Changed are: characters that
    Windows, globbing or ``sha256sum`` cannot take (to ``_``; see also :func:`.portable`), a leading
    dot (hidden), ``-masklabel`` at the end (a mask, to OneTrainer and to us), double
    underscores (special to Hugging Face), words that a reader takes for a split (``test.jpg`` to
    ``test~.png``), and stems over :data:`STEM_BYTES` bytes of UTF-8 (cut, with a digest of the
    path). Of several images with one name, letter case aside, the first path in order keeps it;
    the others get a digest of their path.

    Args:
        paths: Paths relative to the root of the set, with ``/``; all different.
        suffix: The suffix of the exported files.

    Returns:
        One name a path, in the order of ``paths``, all different even without letter case.
    """
    taken: set[str] = set()
    names: dict[str, str] = {}
    for path in sorted(set(paths)):
        stem = re.sub("__+", "_", portable(safe_stem(PurePosixPath(path).name)))
        given = stem = f"{stem}~" if stem.endswith(MARK) else stem
        source = path
        # More than once where an earlier export lies among the images: it has such names already.
        while _key(stem) in taken:
            stem = _cut(given, STEM_BYTES - 9) + "~" + _digest(source)
            source = stem
        taken.add(_key(stem))
        names[path] = stem + suffix
    return [names[path] for path in paths]


def safe_stem(name: str) -> str:
    """Return the stem of a file name, changed as :func:`export_names` says."""
    text = unicodedata.normalize("NFC", PurePosixPath(name).stem)
    # A name that is no valid UTF-8 arrives with lone surrogates, which no text file can hold.
    text = text.encode("utf-8", "replace").decode("utf-8")
    stem = re.sub("__+", "_", _FORBIDDEN.sub("_", text)).strip(" .") or "picture"
    stem = _SPLIT_WORD.sub(r"\1~", stem)
    if len(stem.encode()) > STEM_BYTES:
        stem = _cut(stem, STEM_BYTES - 9) + "~" + _digest(name)
    return stem


def _key(stem: str) -> str:
    return unicodedata.normalize("NFKC", stem).casefold()


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore").rstrip(" .")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
