"""Images as people look at them: upright, 8 bits a channel, small, as data URIs."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SIDE = 160
"""Longest side of an embedded thumbnail in pixels."""

DEEP_MODES = ("I", "F")
"""How the names of Pillow's modes with more than 8 bits a channel begin."""

_QUALITY = 78


def thumbnail(path: Path, side: int = SIDE) -> Any | None:
    """Return an image as a PIL image in RGB, ``side`` pixels at most, or None if unreadable."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (side, side))  # lets JPEG decode at a fraction of its size
                small = to_eight_bits(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Warning, Image.DecompressionBombError):
        return None
    if small.mode in ("LA", "RGBA"):
        ground = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(ground, small.convert("RGBA"))
    small = small.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def to_eight_bits(image: Any) -> Any:
    """Return a PIL image upright, in mode L, LA, RGB or RGBA."""
    from PIL import ImageOps

    image.seek(0)
    image.load()
    upright = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode.startswith(DEEP_MODES):
        import numpy as np
        from PIL import Image

        values = np.asarray(upright, dtype=np.float64)
        # Pillow would clip 16-bit greys to white; scale them (65535 to 255) instead.
        scale = 257.0 if mode.startswith("I") else 1.0
        return Image.fromarray(np.clip(np.rint(values / scale), 0, 255).astype(np.uint8))
    if mode in ("L", "LA", "RGB", "RGBA"):
        return upright
    if mode == "1":
        return upright.convert("L")
    if mode == "PA" or "transparency" in upright.info:
        return upright.convert("RGBA")
    return upright.convert("RGB")


def thumbnails(paths: Sequence[Path], side: int = SIDE) -> list[Any | None]:
    """Return the thumbnail of each path, read by a few threads."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(lambda path: thumbnail(path, side), paths))


def data_uri(image: Any) -> str:
    """Return a PIL image as a JPEG data URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
