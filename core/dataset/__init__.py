"""The exported dataset: one folder that every reader understands.

``export`` writes it, ``CuratedDataset`` reads it back, ``verify`` checks its checksums.
``CuratedDataset`` is a ``torch.utils.data.Dataset``: torch is imported when that name is first
used, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checksums import Verification, verify
    from .curated import CuratedDataset, collate
    from .export import Exported, export

_HOMES = {
    "CuratedDataset": ".curated",
    "Exported": ".export",
    "Verification": ".checksums",
    "collate": ".curated",
    "export": ".export",
    "verify": ".checksums",
}

__all__ = ["CuratedDataset", "Exported", "Verification", "collate", "export", "verify"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    # The submodule 'export' would otherwise hide the function of the same name.
    globals()[name] = value
    return value
