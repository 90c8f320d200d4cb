"""Gradient checkpointing for ComfyUI's diffusion models, which have none that works for all."""

from __future__ import annotations

from torch import nn

from ...core.training.loop.blocks import blocks, checkpointed, unwrap


def add_checkpointing(model: nn.Module) -> None:
    """Give a model the two methods by which core's trainer switches checkpointing on and off."""
    model.enable_gradient_checkpointing = lambda: _wrap(model)  # type: ignore[assignment]
    model.disable_gradient_checkpointing = lambda: _unwrap(model)  # type: ignore[assignment]


def remove_checkpointing(model: nn.Module) -> None:
    """Leave a model as it was before :func:`add_checkpointing`."""
    _unwrap(model)
    for name in ("enable_gradient_checkpointing", "disable_gradient_checkpointing"):
        model.__dict__.pop(name, None)


def _wrap(model: nn.Module) -> None:
    for block in blocks(model):
        block.forward = checkpointed(block.forward)


def _unwrap(model: nn.Module) -> None:
    for block in blocks(model):
        unwrap(block)
