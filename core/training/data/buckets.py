"""Aspect buckets: which size an image is trained at, and which part of it is seen.

An image keeps its shape as far as possible: it goes to the bucket whose aspect ratio is nearest,
is scaled to cover it, and what is over is cut off, evenly or where the face is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

LARGEST_ASPECT = 2.0


@dataclass(frozen=True, order=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Crop:
    """Which part of an image is scaled to which size.

    Attributes:
        box: The part, in the image's pixels; its aspect ratio is that of ``size``.
        size: What it is scaled to.
        controls: The same of the control images that are shown with it.
    """

    box: Box
    size: Size
    controls: tuple[Crop, ...] = ()

    @property
    def key(self) -> str:
        """A text that names this crop of the image itself and no other."""
        return f"{self.size} of " + ",".join(f"{edge:.4f}" for edge in self.box)

    def place(self, box: Box) -> Box | None:
        """Return where a box of the image lies in the crop, in the crop's pixels.

        The box is cut to the crop; ``None`` when they do not meet.
        """
        left, top, right, bottom = self.box
        across, down = self.size.width / (right - left), self.size.height / (bottom - top)
        x0, x1 = ((min(max(x, left), right) - left) * across for x in (box[0], box[2]))
        y0, y1 = ((min(max(y, top), bottom) - top) * down for y in (box[1], box[3]))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


@lru_cache(maxsize=32)
def bucket_sizes(resolution: int, step: int = 64) -> tuple[Size, ...]:
    """List the buckets for a resolution.

    Args:
        resolution: Side of the square whose area no bucket exceeds.
        step: Sides are multiples of this.

    Returns:
        For every width the largest height within the area, aspect ratios from 1:2 to 2:1, in order.
    """
    area = max(resolution, step) ** 2
    sizes = set()
    for width in range(step, int(resolution * math.sqrt(LARGEST_ASPECT)) + step, step):
        height = area // width // step * step
        if height and 1 / LARGEST_ASPECT <= width / height <= LARGEST_ASPECT:
            sizes |= {Size(width, height), Size(height, width)}
    return tuple(sorted(sizes))


def choose_bucket(size: Size, resolution: int, step: int = 64, *, upscale: bool = False) -> Size:
    """Choose the bucket of an image: the nearest aspect ratio, then the largest area.

    Args:
        size: Of the image.
        resolution: As in :func:`bucket_sizes`.
        step: As in :func:`bucket_sizes`.
        upscale: Whether an image may be enlarged. If not, one that would have to be goes to a
            bucket of its own size, cut down to multiples of ``step`` (one step at least).
    """
    buckets = bucket_sizes(resolution, step)
    best = min(buckets, key=lambda b: (abs(math.log(b.aspect / size.aspect)), -b.width * b.height))
    if upscale or (best.width <= size.width and best.height <= size.height):
        return best
    return Size(
        max(step, min(best.width, size.width // step * step)),
        max(step, min(best.height, size.height // step * step)),
    )


def crop_to(size: Size, bucket: Size, face: Sequence[float] | None = None) -> Crop:
    """Say which part of an image fills a bucket.

    Args:
        size: Of the image.
        bucket: What is filled.
        face: A box in the image's pixels; the crop's centre is put as near to the face's as the
            image allows, so the whole face is seen whenever it fits. ``None`` centres the crop.
    """
    scale = min(size.width / bucket.width, size.height / bucket.height)
    width, height = bucket.width * scale, bucket.height * scale
    middle = (size.width / 2, size.height / 2)
    if face is not None:
        middle = ((face[0] + face[2]) / 2, (face[1] + face[3]) / 2)
    # Rounding must not put an edge outside the image: decoders refuse that.
    left = max(0.0, min(middle[0] - width / 2, size.width - width))
    top = max(0.0, min(middle[1] - height / 2, size.height - height))
    right, bottom = min(left + width, size.width), min(top + height, size.height)
    return Crop((left, top, right, bottom), bucket)
