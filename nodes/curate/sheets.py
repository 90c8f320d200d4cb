"""Contact sheets as IMAGE tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..ui.images import to_tensor

if TYPE_CHECKING:
    from ...core.imageset import ImageSet


def sheet_of(
    images: ImageSet, *, by: str, limit: int = 100, columns: int = 10, side: int = 128
) -> torch.Tensor:
    """Draw a set; see ``core.report.contact_sheet.contact_sheets`` for the arguments."""
    from ...core.report.contact_sheet import contact_sheets

    return to_tensor(contact_sheets(images, by=by, limit=limit, columns=columns, side=side))
