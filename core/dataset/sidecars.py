"""What lies beside the images of a folder: captions, and ``metadata.json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..damages import note_damage
from ..json_text import parse
from ..plain_files import plain_text
from ..reading.kinds import CAPTION_SUFFIXES
from ..reading.texts import UnreadCaptionError, beside, read_text

log = logging.getLogger(__name__)

RECIPE_FILE = "recipe.toml"
METADATA_FILE = "metadata.json"
METADATA_IN_COMFYUI = "curated.json"
"""Its name in ComfyUI's ``datasets`` folder, where a ``metadata.json`` says that its folder holds
encoded latents: ComfyUI's own nodes would offer the dataset, and could not read it."""


def metadata_name(place: Path) -> str:
    """Return what the file is called in a folder: by where it is, which need not exist yet."""
    for folder in place.resolve().parents:
        around = folder.parent
        if folder.name == "datasets" and all(
            (around / name).is_dir() for name in ("custom_nodes", "models")
        ):
            return METADATA_IN_COMFYUI
    return METADATA_FILE


def metadata_path(folder: Path) -> Path:
    """Return a dataset's file of metadata, under whichever of its names it is there."""
    other = folder / METADATA_IN_COMFYUI
    there = folder / METADATA_FILE
    return other if other.is_file() and not there.is_file() else there


def read_metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what ``metadata.json`` says of each image, by file name; empty without the file."""
    path = metadata_path(folder)
    try:
        values = parse(plain_text(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}  # any folder of images will do
    except (OSError, ValueError) as error:
        note_damage("tables of images", path, "taken for absent", once=True)
        log.warning("%s cannot be read (%s), and counts as if it were not there.", path, error)
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def read_caption(image: Path, known: Mapping[str, Any]) -> str:
    """Return the caption of an image in one line: the one beside it, else what is known of it.

    Args:
        image: Its file; ``IMAGE.txt`` or ``IMAGE.caption`` lies beside it.
        known: Its entry of :func:`read_metadata`.

    Raises:
        UnreadCaptionError: The caption is in no encoding that is recognised, or a link elsewhere.
    """
    try:
        caption = beside(image)
    except OSError:
        caption = None
    return caption.text if caption else " ".join(str(known.get("caption") or "").split())


def read_captions(folder: Path) -> tuple[str, ...]:
    """Return the captions beside a folder's images, in the order of the files' names."""
    # A caption that can't be read can't be repeated either.
    files = [path for suffix in CAPTION_SUFFIXES for path in folder.rglob(f"*{suffix}")]
    return tuple(filter(None, map(_text_of, sorted(files))))


def _text_of(path: Path) -> str | None:
    """Return a text file in one line; ``None`` if it can't be read."""
    try:
        return read_text(path).text
    except (OSError, UnreadCaptionError):
        return None
