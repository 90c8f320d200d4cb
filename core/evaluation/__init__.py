"""Evaluation: what a trained LoRA is worth, in pictures and in figures.

``evaluate`` makes pictures with a LoRA and with its base model, measures them and writes one table,
one contact sheet and one summary for each file. Names load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints import evaluate
    from .outcome import Evaluation
    from .prompts import PUBLISHED, Prompt, new_prompts, read_prompts
    from .scoring import scorer
    from .setup import Setup
    from .summary import Summary, Targets, summarise

_HOMES = {
    "Evaluation": ".outcome",
    "PUBLISHED": ".prompts",
    "Prompt": ".prompts",
    "Setup": ".setup",
    "Summary": ".summary",
    "Targets": ".summary",
    "evaluate": ".checkpoints",
    "new_prompts": ".prompts",
    "read_prompts": ".prompts",
    "scorer": ".scoring",
    "summarise": ".summary",
}

__all__ = [
    "PUBLISHED",
    "Evaluation",
    "Prompt",
    "Setup",
    "Summary",
    "Targets",
    "evaluate",
    "new_prompts",
    "read_prompts",
    "scorer",
    "summarise",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value
