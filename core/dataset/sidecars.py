"""What lies beside the images of a folder: captions, and ``metadata.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METADATA_FILE = "metadata.json"


def read_metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what ``metadata.json`` says of each image, by file name; empty without the file."""
    try:
        values = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # any folder of images will do
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def read_caption(image: Path, known: Mapping[str, Any]) -> str:
    """Return the caption of an image in one line: that of ``IMAGE.txt``, else what is known of it.

    Args:
        image: Its file.
        known: Its entry of :func:`read_metadata`.
    """
    text = _text_of(image.with_suffix(".txt"))
    return text if text is not None else " ".join(str(known.get("caption") or "").split())


def read_captions(folder: Path) -> tuple[str, ...]:
    """Return the captions beside a folder's images, in the order of the files' names."""
    # A caption that can't be read can't be repeated either.
    return tuple(filter(None, map(_text_of, sorted(folder.glob("*.txt")))))


def _text_of(path: Path) -> str | None:
    """Return a text file in one line; ``None`` if it can't be read."""
    try:
        return " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return None
