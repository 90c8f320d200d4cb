"""Images as people look at them: upright, 8 bits a channel, small, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..naming import located
from ..reading.opening import MAX_PIXELS, as_seen, decoding_errors, opened
from ..rejection_reasons import Rejection

SIDE = 160
"""Longest side of an embedded thumbnail in pixels."""

SMALLER = ((1_500, SIDE), (3_000, 128), (5_000, 96))
"""Up to how many thumbnails are so large; beyond, the last."""

BUDGET = 20_000_000
"""Characters that all thumbnails of a page may take together."""

_QUALITY = 78
_LEAST_SIDE = 32


@dataclass(frozen=True)
class Embedded:
    """A thumbnail in a page: its size in pixels, and its JPEG as a data URI."""

    width: int
    height: int
    uri: str


def thumbnail(path: Path, side: int = SIDE) -> Any | None:
    """Return an image as a PIL image in RGB, ``side`` pixels at most, or None if unreadable."""
    from PIL import Image

    try:
        with opened(path) as image:
            if image.size[0] * image.size[1] <= MAX_PIXELS:
                image.draft("RGB", (side, side))  # lets JPEG decode at a fraction of its size
            small = as_seen(image).convert("RGB")
    except decoding_errors():
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def thumbnails(paths: Sequence[Path | None], side: int = SIDE) -> list[Any | None]:
    """Return the thumbnail of each path, read by a few threads; none of ``None``."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda path: path and thumbnail(path, side), paths))


def readable_path(row: Mapping[str, Any], root: Path) -> Path | None:
    """Return where the image of a row lies; none of one that could not be read, for good."""
    return None if row.get("rejection") == Rejection.UNREADABLE else located(root, row["path"])


def embedded(paths: Sequence[Path | None], budget: int = BUDGET) -> list[Embedded | None]:
    """Return the thumbnail of each path for a page, all of them within a budget; none of ``None``.

    They are the smaller the more there are; where they still take too much, all are made smaller.

    Args:
        paths: The images.
        budget: Characters that all of them may take together.
    """
    side = next((side for count, side in SMALLER if len(paths) <= count), SMALLER[-1][1])

    def read(path: Path | None) -> Embedded | None:
        small = path and thumbnail(path, side)
        return None if small is None else _embed(small)

    with ThreadPoolExecutor(max_workers=4) as pool:
        made = list(pool.map(read, paths))
        while (size := sum(len(one.uri) for one in made if one)) > budget and side > _LEAST_SIDE:
            side = max(_LEAST_SIDE, int(side * min(0.9, (budget / size) ** 0.5)))
            made = list(pool.map(_smaller, made, [side] * len(made)))
    return made


def data_uri(image: Any) -> str:
    """Return a PIL image as a JPEG data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _embed(image: Any) -> Embedded:
    return Embedded(image.width, image.height, data_uri(image))


def _smaller(one: Embedded | None, side: int) -> Embedded | None:
    from PIL import Image

    if one is None:
        return None
    data = io.BytesIO(base64.b64decode(one.uri.partition(",")[2]))
    with Image.open(data, formats=("JPEG",)) as image:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return _embed(image)
