"""Optimizers by name, those of optional libraries included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import MissingDependencyError
from ..settings import SettingsError, TrainingSettings


def make_optimizer(
    parameters: Mapping[str, nn.Parameter],
    settings: TrainingSettings,
    text_parameters: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Make the optimizer of a run.

    Args:
        parameters: What is trained, by name; kept in this order.
        settings: Which optimizer, its learning rate, decay and momenta.
        text_parameters: Those that belong to text encoders, for their own learning rate; parameters
            that are not trained may be among them.

    Returns:
        An optimizer whose groups carry their peak learning rate as ``peak_lr``.

    Raises:
        MissingDependencyError: The optimizer's library is not installed.
        SettingsError: The optimizer cannot have two learning rates.
    """
    text = {id(parameter) for parameter in text_parameters}
    rates = {False: settings.learning_rate, True: settings.text_learning_rate}
    if rates[True] is None:
        rates[True] = settings.learning_rate
    if settings.optimizer == "prodigy" and rates[True] != rates[False]:
        raise SettingsError("Prodigy has one learning rate for all: leave text_learning_rate out.")
    groups = []
    for is_text, rate in rates.items():
        members = [p for p in parameters.values() if (id(p) in text) is is_text]
        if members:
            groups.append({"params": members, "lr": rate, "peak_lr": rate})
    common = {"betas": settings.betas, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        return _adamw(groups, common)
    if settings.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ImportError:
            raise MissingDependencyError(
                "prodigyopt", "The optimizer Prodigy", "pip install prodigyopt"
            ) from None
        # The step size adapts itself; while the rate still rises its estimate must not.
        warm = settings.warm_up > 0
        return Prodigy(
            groups, **common, use_bias_correction=True, safeguard_warmup=warm, decouple=True
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise MissingDependencyError(
            "bitsandbytes", "The optimizer 8-bit AdamW", "pip install bitsandbytes"
        ) from None
    return AdamW8bit(groups, **common)


def _adamw(groups: list[dict[str, Any]], common: Mapping[str, Any]) -> torch.optim.Optimizer:
    try:
        # Adapters are many small tensors: one kernel for all takes a quarter of the time.
        return torch.optim.AdamW([dict(group) for group in groups], fused=True, **common)
    except RuntimeError:  # this version of torch has none for this device
        return torch.optim.AdamW(groups, **common)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
