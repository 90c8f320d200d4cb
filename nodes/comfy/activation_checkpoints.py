"""Gradient checkpointing for ComfyUI's diffusion models, which have none that works for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def add_checkpointing(model: nn.Module) -> None:
    """Give a model the two methods by which core's trainer switches checkpointing on and off."""
    model.enable_gradient_checkpointing = lambda: _wrap(model)  # type: ignore[assignment]
    model.disable_gradient_checkpointing = lambda: _unwrap(model)  # type: ignore[assignment]


def remove_checkpointing(model: nn.Module) -> None:
    """Leave a model as it was before :func:`add_checkpointing`."""
    _unwrap(model)
    for name in ("enable_gradient_checkpointing", "disable_gradient_checkpointing"):
        model.__dict__.pop(name, None)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the largest parts of a model that are called as modules: lists of parts are not."""
    for child in model.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
            yield from blocks(child)
        else:
            yield child


def _wrap(model: nn.Module) -> None:
    for block in blocks(model):
        block.forward = _checkpointed(block.forward)


def _unwrap(model: nn.Module) -> None:
    for block in blocks(model):
        if hasattr(block.__dict__.get("forward"), "is_checkpointed"):
            del block.forward


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def on_copies(*arguments: Any, **options: Any) -> Any:
        # Some blocks add to their inputs in place, which are needed once more.
        copies = {name: _copy(value) for name, value in options.items()}
        return forward(*(_copy(value) for value in arguments), **copies)

    def run(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **options)
        return checkpoint(on_copies, *arguments, use_reentrant=False, **options)

    run.is_checkpointed = True  # type: ignore[attr-defined]
    return run


def _copy(value: Any) -> Any:
    is_changed = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.clone() if is_changed else value
