"""The exported dataset: one folder that every reader understands.

``export`` writes it, ``CuratedDataset`` reads it back, ``verify`` checks its checksums;
``versions`` lists those that are kept, ``diff`` compares two, ``restore`` brings one back.
``CuratedDataset`` is a ``torch.utils.data.Dataset``: torch is imported when that name is first
used, not before.
"""

from __future__ import annotations

from ..lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
