"""An image becomes an asset: its background away, trimmed, and in the size that the game wants."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..asset_sections import POWER_OF_TWO, SpriteRules, fixed_size
from ..reading.opening import opened, to_eight_bits, upright

_FAINTEST = 8
"""Pixels of less opacity, of 255, count as transparent."""
_BLEED = 4
"""So many pixels around the subject take on the color of its edge."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sprite:
    """An asset, and where in its source it was.

    Attributes:
        image: A PIL image in RGBA. Pixels far from the subject are 0, 0, 0, 0.
        box: What of the source it shows: left, top, right, bottom in its pixels.
        scale: By how much it was scaled.
        source: Width and height of the source.
    """

    image: Any
    box: Box
    scale: float
    source: tuple[int, int]


def read_source(path: Path) -> Any:
    """Read an image as it is seen: a PIL image in RGBA, upright, of 8 bits a channel.

    Raises:
        OSError, ValueError, SyntaxError, MemoryError: It is no image, or a damaged one.
    """
    with opened(path) as image:
        shown = to_eight_bits(upright(image))
    return shown.convert("RGBA")


def sprite_of(image: Any, mask: Any | None, rules: SpriteRules) -> Sprite | None:
    """Make an asset.

    Args:
        image: A PIL image in RGBA.
        mask: White where the subject is, in mode L and the image's size; None keeps all of it.
        rules: How.

    Returns:
        The asset; None where nothing of the image is left.
    """
    from PIL import Image, ImageChops

    size = image.size
    if mask is not None:
        image = image.copy()
        image.putalpha(ImageChops.multiply(image.getchannel("A"), mask))
    alpha = image.getchannel("A").point([0 if v < _FAINTEST else v for v in range(256)])
    image.putalpha(alpha)
    seen = alpha.getbbox()
    if seen is None:
        return None
    box = seen if rules.trim else (0, 0, *size)
    part = image.crop(box)
    wanted = None if rules.size is None else fixed_size(rules.size)
    scale = 1.0
    if wanted is not None:
        scale = min(1.0, wanted[0] / part.width, wanted[1] / part.height)
        if scale < 1:
            side = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
            part = part.resize(side, Image.Resampling.LANCZOS)  # Pillow weighs by opacity
    elif rules.size == POWER_OF_TWO:
        wanted = (_power(part.width), _power(part.height))
    if wanted is not None and wanted != part.size:
        canvas = Image.new("RGBA", wanted)
        left, top = (wanted[0] - part.width) // 2, wanted[1] - part.height
        canvas.paste(part, (left, top if rules.anchor == "bottom" else top // 2))
        part = canvas
    return Sprite(Image.fromarray(bled(np.asarray(part))), box, scale, size)


def bled(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give transparent pixels beside opaque ones their color, and all others none.

    An engine that scales a texture mixes the colors of neighbours, transparent ones too: the old
    background would shine through as a rim. Only pixels inside the smallest box around all that is
    seen are colored, so that a trimmed image is restored to the byte.

    Args:
        pixels: RGBA, shape ``(h, w, 4)``.
    """
    from scipy.ndimage import distance_transform_edt

    seen = pixels[..., 3] > 0
    if seen.all() or not seen.any():
        return pixels if seen.all() else np.zeros_like(pixels)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    inner = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    part, there = pixels[inner], seen[inner]
    result = np.zeros_like(pixels)
    distance, nearest = distance_transform_edt(~there, return_indices=True)
    colored = np.where((distance <= _BLEED)[..., None], part[nearest[0], nearest[1]], 0)
    colored[..., 3] = np.where(there, part[..., 3], 0)
    result[inner] = colored
    return result


def encoded(image: Any) -> bytes:
    """Return an image as a PNG without any metadata: the same image gives the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _power(side: int) -> int:
    return 1 << (side - 1).bit_length()
