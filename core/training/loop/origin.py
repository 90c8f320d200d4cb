"""What a resumable state belongs to: it is not continued with other images, settings or model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...hashing import json_hash
from ..data.cache import Item
from ..data.prepare import TrainingData
from ..denoisers.protocol import Denoiser
from ..settings import TrainingSettings
from .state import StateMismatchError

FREE = frozenset({
    "epochs", "steps", "patience", "min_improvement", "plateau_tolerance", "save_every",
    "checkpoint_every", "sample_every", "file_spelling", "base_model_version",
    "shard_base",
})  # fmt: skip
"""Options that change nothing in what a step does; they may differ when a run goes on."""


def origin_of(
    denoiser: Denoiser,
    parameters: Mapping[str, nn.Parameter],
    data: TrainingData,
    settings: TrainingSettings,
    start: str | None = None,
) -> dict[str, Any]:
    """Return what determines the course of a run, a fact a key."""
    images = [
        (
            e.hash,
            e.caption,
            e.prior,
            crop.key,
            *([e.repeats] if e.repeats != 1 else []),
            *_shown((e, crop)),
        )
        for e, crop in data.items
    ]
    held_out = [(e.hash, e.caption, crop.key, *_shown((e, crop))) for e, crop in data.validation]
    return {
        "pictures": json_hash(sorted(images)),
        "validation images": json_hash(sorted(held_out)),
        "adapters": json_hash({name: list(p.shape) for name, p in parameters.items()}),
        "model": denoiser.identity,
        "settings": course_options(settings),
        **({} if start is None else {"what it goes on from": start}),
    }


def _shown(item: Item) -> list[str]:
    """Return an item's control images and its mask; what has none keeps its facts."""
    example, crop = item
    pairs = zip(example.controls, crop.controls, strict=True)
    shown = [f"{control.hash} {part.key}" for control, part in pairs]
    return [*shown, f"mask {example.mask.hash}"] if example.mask else shown


def course_options(settings: TrainingSettings) -> dict[str, Any]:
    """Return the options that a run's course depends on; those of :data:`FREE` do not count."""
    options = {k: v for k, v in settings.recorded().items() if k not in FREE}
    if settings.schedule != "constant":
        # The whole course of the rate depends on the length.
        options |= {"epochs": settings.epochs, "steps": settings.steps}
    return options


def check_origin(path: Path, found: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Compare a state's origin with the present run's.

    Raises:
        StateMismatchError: They differ; the message says in what.
    """
    facts = {**found, **present}.keys() - {"settings"}
    other = sorted(name for name in facts if found.get(name) != present.get(name))
    before, now = found["settings"], present["settings"]
    other += [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if other:
        raise StateMismatchError(
            f"{path} is the state of another run; different are: {', '.join(other)}. "
            "Choose another folder, delete that file, or train without resuming (--restart)."
        )
