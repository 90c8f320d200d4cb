"""Training: a LoRA from a dataset.

``train_lora`` makes a LoRA file from a folder of pictures. ``train`` is the loop alone; it takes
any model that keeps the ``Denoiser`` protocol. torch is imported when a name that needs it is first
used, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .denoiser import Denoiser, TextEmbeddings
    from .examples import Example, Skipped, as_prior, read_examples
    from .job import Checkpoint, LoraJob, LoraResult
    from .loop import train
    from .lora import train_lora
    from .result import Callbacks, EpochReport, StepReport, TrainingResult, joined
    from .samples import SampleSettings
    from .settings import PRESETS, TrainingSettings
    from .state import load_weights
    from .validation import Convergence

_HOMES = {
    "Callbacks": ".result",
    "Checkpoint": ".job",
    "Convergence": ".validation",
    "Denoiser": ".denoiser",
    "EpochReport": ".result",
    "Example": ".examples",
    "LoraJob": ".job",
    "LoraResult": ".job",
    "PRESETS": ".settings",
    "SampleSettings": ".samples",
    "Skipped": ".examples",
    "StepReport": ".result",
    "TextEmbeddings": ".denoiser",
    "TrainingResult": ".result",
    "TrainingSettings": ".settings",
    "as_prior": ".examples",
    "joined": ".result",
    "load_weights": ".state",
    "read_examples": ".examples",
    "train": ".loop",
    "train_lora": ".lora",
}

__all__ = [
    "PRESETS",
    "Callbacks",
    "Checkpoint",
    "Convergence",
    "Denoiser",
    "EpochReport",
    "Example",
    "LoraJob",
    "LoraResult",
    "SampleSettings",
    "Skipped",
    "StepReport",
    "TextEmbeddings",
    "TrainingResult",
    "TrainingSettings",
    "as_prior",
    "joined",
    "load_weights",
    "read_examples",
    "train",
    "train_lora",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value
