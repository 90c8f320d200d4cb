"""Optimizers by name, those of optional libraries included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingDependencyError
from ..settings import SettingsError, TrainingSettings
from .ema import copy_into


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
    if settings.optimizer == "adafactor":
        return _adafactor(groups, settings)
    if settings.optimizer == "schedulefree":
        return _schedule_free(groups, common)
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


def _adafactor(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    # Not torch's own: that always multiplies the rate by the size of a parameter, and adapters
    # begin with one that is zero, so that rates would mean something else than everywhere.
    from transformers.optimization import Adafactor

    return Adafactor(
        groups,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        relative_step=False,
        scale_parameter=False,
        warmup_init=False,
    )


def _schedule_free(
    groups: list[dict[str, Any]], common: Mapping[str, Any]
) -> torch.optim.Optimizer:
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError:
        raise MissingDependencyError(
            "schedulefree", "The schedule-free optimizer", "pip install schedulefree"
        ) from None
    optimizer: Any = AdamWScheduleFree(groups, **common)
    optimizer.train()
    return optimizer


@torch.no_grad()
def smoothed(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor] | None:
    """Return the weights that a schedule-free optimizer has come to (arXiv 2405.15682).

    Gradients are taken at other weights than those that count: an average, which the optimizer
    works out of both. The parameters are left as they are, to the bit.

    Args:
        optimizer: Of the parameters.
        parameters: By name.

    Returns:
        Copies by name; None if the optimizer is of another kind, and the parameters count.
    """
    kind: Any = optimizer
    if not (hasattr(kind, "train") and hasattr(kind, "eval")):
        return None
    trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    kind.eval()
    found = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    kind.train()
    copy_into(parameters, trained)  # the way back rounds
    return found


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
