"""Verification: whether a dataset and its LoRA are ready for production, and what is wrong if not.

``check_readiness`` goes through the seed document's deployment checklist and does what each line
says; ``diagnose`` is its troubleshooting guide, measured. Names load when they are first used.
"""

from __future__ import annotations

from ..lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
