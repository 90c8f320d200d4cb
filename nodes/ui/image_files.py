"""IMAGE batches as files on disk, which image sets are made of."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.progress import Progress


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
    from ...core.plain_files import plain_bytes
    from .images import to_bytes

    progress.start("Writing", len(images))
    rows = []
    for number in range(len(images)):
        pixels = to_bytes(images[number : number + 1])[0]
        height, width = pixels.shape[:2]
        name = hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest()
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
        path = place / f"image_{name[:16]}.png"
        if not path.is_file() or plain_bytes(path) != buffer.getvalue():
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
    return rows
