"""IMAGE batches as files on disk, which image sets are made of."""

from __future__ import annotations

import hashlib
import logging
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.counts import how_many, worded

if TYPE_CHECKING:
    from ...core.progress import Progress

log = logging.getLogger(__name__)


def write_batch(
    images: Any, place: Path, progress: Progress, **columns: Any
) -> list[dict[str, Any]]:
    """Write the images of a batch as PNG files that are named by their content.

    Args:
        images: An IMAGE.
        place: The folder.
        progress: Watches.
        columns: What else the rows say.

    Returns:
        A row of an image set for each image, in their order; equal ones have the same file.
    """
    from PIL import Image

    from ...core import atomic
    from ...core.damages import note_damage
    from ...core.plain_files import plain_bytes
    from .images import to_bytes

    progress.start("Writing", len(images))
    rows, spoiled = [], set()
    for number in range(len(images)):
        pixels = to_bytes(images[number : number + 1])[0]
        height, width = pixels.shape[:2]
        name = hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest()
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
        path = place / f"image_{name[:16]}.png"
        if not path.is_file() or plain_bytes(path) != buffer.getvalue():
            if path.exists() and not _shows(path, pixels):
                spoiled.add(path.name)
            atomic.write_bytes(path, buffer.getvalue())
        rows.append(
            {
                "path": path.name,
                "hash": hashlib.sha256(buffer.getvalue()).hexdigest(),
                "width": width,
                "height": height,
                "kind": "real",
                **columns,
            }
        )
        progress.advance()
    if spoiled:
        note_damage("images", place, "written again", len(spoiled))
        log.warning(
            "%s in %s did not show what %s named by, and %s written again.",
            how_many(len(spoiled), "image"), place, worded(len(spoiled), "it is", "they are"),
            worded(len(spoiled), "is", "are"),
        )  # fmt: skip
    return rows


def _shows(path: Path, pixels: Any) -> bool:
    """Whether a file has these pixels, however another version of Pillow has packed them."""
    import numpy as np
    from PIL import Image

    from ...core.reading.opening import decoding_errors

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return np.array_equal(np.asarray(image), pixels)
    except decoding_errors():
        return False
