"""Images as people look at them: upright, 8 bits a channel, small, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..naming import located
from ..reading.opening import MAX_PIXELS, as_seen, decoding_errors, opened
from ..rejection_reasons import Rejection

SIDE = 160
"""Longest side of an embedded thumbnail in pixels."""

_QUALITY = 78


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


def data_uri(image: Any) -> str:
    """Return a PIL image as a JPEG data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
