"""An asset pack on wires and in front of people: transparency over a chequered ground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.counts import how_many
from ..ui.images import to_batch, to_tensor

if TYPE_CHECKING:
    from ...core.assets.pack import Pack

_SQUARE = 8
_LIGHT, _DARK = 235, 205
_MOST_SHOWN = 60


def shown(pack: Pack) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a pack's atlas as IMAGE and MASK, and what is shown of it on the node.

    Without an atlas it is all assets at a glance.
    """
    from PIL import Image

    if not pack.pages:
        sheet = to_tensor(_sheet(pack))
        return sheet, torch.ones(sheet.shape[:3]), sheet
    pages = [Image.open(path, formats=("PNG",)).convert("RGBA") for path in pack.pages]
    alpha = np.asarray(pages[0].getchannel("A"), dtype=np.float32) / 255.0
    preview = to_batch([_over_squares(page) for page in pages])
    return to_tensor(pages[0]), torch.from_numpy(alpha)[None], preview


def _sheet(pack: Pack) -> Any:
    """Draw the assets beside each other."""
    from ...core.report.contact_sheet import contact_sheet

    names = pack.files[:_MOST_SHOWN]
    title = how_many(len(pack.files), "asset")
    if len(pack.files) > len(names):
        title += f", the first {len(names)} shown"
    groups: dict[str, list[Any]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        groups.setdefault(folder, []).append((pack.folder / name, file.removesuffix(".png")))
    return contact_sheet(sorted(groups.items()), title=title, columns=6)


def _over_squares(image: Any) -> Any:
    """Lay an image in RGBA over a chequered ground."""
    from PIL import Image

    rows, columns = np.indices((image.height, image.width)) // _SQUARE
    ground = np.where((rows + columns) % 2, _DARK, _LIGHT).astype(np.uint8)
    under = Image.fromarray(ground).convert("RGBA")
    under.alpha_composite(image)
    return under.convert("RGB")
