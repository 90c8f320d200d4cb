"""Character Curator: generate, curate, and export training sets for one character or several.

Every public name is loaded when it is first used, so that importing the package costs next to
nothing and never pulls in torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CuratedDataset": ".dataset",
    "CuratorError": ".errors",
    "DiffusersBackend": ".generation.diffusers_backend",
    "Embedder": ".analysis.embeddings",
    "FaceAnalyser": ".analysis.face_analyser",
    "FaceThresholds": ".analysis.faces",
    "FeatureStore": ".features",
    "ImageSet": ".imageset",
    "Plan": ".plan",
    "QualityAssessment": ".analysis.quality",
    "QualityThresholds": ".analysis.quality",
    "Quota": ".selection",
    "Rejection": ".imageset",
    "Request": ".plan",
    "Scenario": ".plan",
    "Subject": ".plan",
    "export": ".dataset",
    "generate": ".generation.run",
    "noise_seed": ".naming",
    "reproduce": ".generation.reproduce",
    "select": ".selection",
}
"""Public names and the modules that define them."""

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home, __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
