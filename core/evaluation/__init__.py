"""Evaluation: what a trained LoRA is worth, in images and in figures.

``evaluate`` makes images with a LoRA and with its base model, measures them and writes one table,
one contact sheet and one summary for each file. Names load when they are first used.
"""

from __future__ import annotations

from ..lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
