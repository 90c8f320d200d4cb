"""What a cropped image says of itself, and how it is cut from its original again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..json_text import parse
from .opening import MAX_PIXELS, decoding_errors, opened, upright

CROP_KEY = "character_curator_crop"
"""Keyword of the PNG text chunk that holds a crop's record."""


@dataclass(frozen=True)
class CropRecord:
    """Which part of which image a crop is.

    Attributes:
        source: The original's name, without the folders above it.
        source_hash: SHA-256 of its bytes.
        source_size: Its width and height in pixels as it is decoded, upright.
        box: Left, top, right, bottom in those pixels.
        size: Width and height of the crop; larger than the box where it was enlarged.
        generation: How this program has made the original, if it has.
    """

    source: str
    source_hash: str
    source_size: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    generation: Mapping[str, Any] | None = None

    @property
    def scale(self) -> float:
        """Sides of the crop over those of the box."""
        return self.size[0] / (self.box[2] - self.box[0])

    def to_text(self) -> str:
        """Return the record as JSON in ASCII, the same for the same crop."""
        values: dict[str, Any] = {
            "source": self.source,
            "source_hash": self.source_hash,
            "source_size": list(self.source_size),
            "box": list(self.box),
            "size": list(self.size),
        }
        if self.generation is not None:
            values["generation"] = dict(self.generation)
        return json.dumps(values, ensure_ascii=True, separators=(",", ":"))

    @staticmethod
    def from_text(text: object) -> CropRecord | None:
        """Read what :meth:`to_text` wrote; ``None`` if it is something else."""
        if not isinstance(text, str):
            return None
        try:
            values = parse(text)
            wide, high = (int(side) for side in values["source_size"])
            left, top, right, bottom = (int(edge) for edge in values["box"])
            across, down = (int(side) for side in values["size"])
            generation = values.get("generation")
            inside = 0 <= left < right <= wide and 0 <= top < bottom <= high
            if not inside or min(across, down) < 1 or across * down > MAX_PIXELS:
                return None
            return CropRecord(
                str(values["source"]),
                str(values["source_hash"]),
                (wide, high),
                (left, top, right, bottom),
                (across, down),
                generation if isinstance(generation, dict) else None,
            )
        except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError):
            return None


def crop_record(path: Path) -> CropRecord | None:
    """Return what an image says of itself as a crop; ``None`` if it is none, or no image."""
    try:
        with opened(path) as image:
            return CropRecord.from_text(image.info.get(CROP_KEY))
    except decoding_errors():
        return None


def cut(image: Any, record: CropRecord) -> Any:
    """Cut a crop out of an upright PIL image, and enlarge it where the record says so."""
    from PIL import Image

    part = image.crop(record.box)
    return part if part.size == record.size else part.resize(record.size, Image.Resampling.LANCZOS)


def cut_file(path: Path, record: CropRecord) -> Any:
    """Cut a crop out of a file: in sRGB, upright, with its transparency; mode L, LA, RGB or RGBA.

    Raises:
        Exception: One of :func:`.opening.decoding_errors`: the file can't be read, or is decoded
            at another size than the record says.
    """
    with opened(path) as image:
        whole = upright(image, MAX_PIXELS)
    if whole.size != record.source_size:
        raise ValueError(
            f"it has {whole.size[0]} x {whole.size[1]} pixels, and the crop was cut from "
            f"{record.source_size[0]} x {record.source_size[1]}"
        )
    return cut(whole, record)
