"""Character Curator: generate, curate, and export training sets for one character or several.

Every public name is declared in ``__init__.pyi`` and loaded when it is first used, so that
importing the package costs next to nothing and never pulls in torch.
"""

from __future__ import annotations

from .lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

__version__ = "0.1.0"
