"""Captions of a folder of images: read, edited with a preview and undo, checked, written by models.

``read_table`` reads them, ``edit`` makes a preview, ``write`` writes it and ``undo`` takes it back;
``lint`` and ``frequencies`` say what is in them.
"""

from __future__ import annotations

from ..lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
