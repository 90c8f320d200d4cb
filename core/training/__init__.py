"""Training: a LoRA from a dataset.

``train`` is the loop; it takes any model that keeps the ``Denoiser`` protocol. torch is imported
when a name that needs it is first used, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .denoiser import Denoiser, TextEmbeddings
    from .examples import Example, Skipped, as_prior, read_examples
    from .loop import train
    from .result import Callbacks, EpochReport, StepReport, TrainingResult
    from .settings import PRESETS, TrainingSettings
    from .state import load_weights
    from .validation import Convergence

_HOMES = {
    "PRESETS": ".settings",
    "Callbacks": ".result",
    "Convergence": ".validation",
    "Denoiser": ".denoiser",
    "EpochReport": ".result",
    "Example": ".examples",
    "Skipped": ".examples",
    "StepReport": ".result",
    "TextEmbeddings": ".denoiser",
    "TrainingResult": ".result",
    "TrainingSettings": ".settings",
    "as_prior": ".examples",
    "load_weights": ".state",
    "read_examples": ".examples",
    "train": ".loop",
}

__all__ = [
    "PRESETS",
    "Callbacks",
    "Convergence",
    "Denoiser",
    "EpochReport",
    "Example",
    "Skipped",
    "StepReport",
    "TextEmbeddings",
    "TrainingResult",
    "TrainingSettings",
    "as_prior",
    "load_weights",
    "read_examples",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value
