"""Between PIL images, files and ComfyUI's IMAGE tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from ...core.imageset import ImageSet


def to_tensor(image: Any) -> torch.Tensor:
    """Turn a PIL image into an IMAGE: float32 in [0, 1], shape ``(1, height, width, 3)``."""
    values = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(values)[None]


def to_batch(images: Sequence[Any]) -> torch.Tensor:
    """Turn PIL images into one IMAGE batch in the size of the first.

    Others are scaled to cover that size and cropped around their centre.
    """
    from PIL import ImageOps

    size = images[0].size
    fitted = [
        image if image.size == size else ImageOps.fit(image.convert("RGB"), size)
        for image in images
    ]
    return torch.cat([to_tensor(image) for image in fitted])


def to_bytes(images: torch.Tensor) -> np.ndarray:
    """Quantise an IMAGE as SaveImage does: uint8, shape ``(n, height, width, 3)``."""
    return np.clip(255.0 * images.cpu().numpy(), 0, 255).astype(np.uint8)


def sheet_of(
    images: ImageSet, *, by: str, limit: int = 100, columns: int = 10, side: int = 128
) -> torch.Tensor:
    """Draw a set; see ``core.report.contact_sheet.contact_sheets`` for the arguments."""
    from ...core.report.contact_sheet import contact_sheets

    return to_tensor(contact_sheets(images, by=by, limit=limit, columns=columns, side=side))
