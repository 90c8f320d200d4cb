"""Training: a LoRA from a dataset.

``train_lora`` makes a LoRA file from a folder of images. ``train`` is the loop alone; it takes any
model that keeps the ``Denoiser`` protocol. torch is imported when a name that needs it is first
used, not before.
"""

from __future__ import annotations

from ..lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
