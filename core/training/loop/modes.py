"""How a process and its modules are set while they train, and set back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...counts import how_many
from ...errors import CuratorError
from ...generation.conditions import exact
from .blocks import checkpointed_blocks


class NoCheckpointingError(CuratorError):
    """Gradient checkpointing is asked for of a model that knows none."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"{model} has no gradient checkpointing. Switch gradient_checkpointing off, and lower "
            "the batch size or the resolution if memory is short."
        )


@contextmanager
def training_modes(modules: Iterable[nn.Module], training: bool = True) -> Iterator[None]:
    """Put modules into training or evaluation mode for a while, every part as it was afterwards."""
    parts = [(part, part.training) for module in modules for part in module.modules()]
    for part, _ in parts:
        part.training = training
    try:
        yield
    finally:
        for part, before in parts:
            part.training = before


@contextmanager
def checkpointed(module: nn.Module, wanted: bool, share: float = 1.0) -> Iterator[str]:
    """Switch gradient checkpointing on for a while.

    Args:
        module: A diffusion model.
        wanted: Whether to.
        share: For how many of its blocks, the first ones; below 1, see
            :func:`.blocks.checkpointed_blocks`.

    Yields:
        For how many blocks of how many, in words, where it is not all.

    Raises:
        NoCheckpointingError: The model does not know it.
    """
    if not wanted:
        yield ""
        return
    if share < 1:
        with checkpointed_blocks(module, share) as (count, total):
            yield f"Gradient checkpointing: the first {count} of {how_many(total, 'block')}."
        return
    model: Any = module
    if not hasattr(model, "enable_gradient_checkpointing"):
        raise NoCheckpointingError(type(module).__name__)
    before = getattr(model, "is_gradient_checkpointing", False)
    model.enable_gradient_checkpointing()
    try:
        yield ""
    finally:
        if not before:
            model.disable_gradient_checkpointing()


_HOMES = ("diffusers.models.activations", "comfy.ldm.modules.attention")
"""Where the GEGLU is at home that has a layer ``proj`` and GELU in its exact form."""


@contextmanager
def gates_recomputed(module: nn.Module) -> Iterator[None]:
    """Let a transformer's gated units keep less for the backward pass, for a while.

    A GEGLU (Shazeer 2020, arXiv 2002.05202) multiplies half of its projection by the GELU of the
    other half. Its backward pass needs both factors; within the context it computes the second
    again, to the same bits, instead of keeping it: 170 MB an image of 512 x 512 in Stable
    Diffusion 1.5.
    """
    gates = [part for part in module.modules() if _is_gate(part)]
    for gate in gates:
        gate.forward = partial(_gated, gate)
    try:
        yield
    finally:
        for gate in gates:
            del gate.forward  # the class's own again


def _is_gate(part: nn.Module) -> bool:
    kind = type(part)
    return kind.__name__ == "GEGLU" and kind.__module__ in _HOMES and "forward" not in vars(part)


def _gated(gate: Any, states: Tensor) -> Tensor:
    return _MultiplyHalves.apply(gate.proj(states))


class _MultiplyHalves(torch.autograd.Function):
    # Not torch's checkpoint: what that does in Python is 4 % of a step of a small model.
    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(projected)
        values, gate = projected.chunk(2, dim=-1)
        return values * F.gelu(gate)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        values, gate = ctx.saved_tensors[0].chunk(2, dim=-1)
        of_gate = torch.ops.aten.gelu_backward(gradient * values, gate)
        return torch.cat((gradient * F.gelu(gate), of_gate), dim=-1)


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Leave the process's random state and its choice of kernels as they were.

    On a CPU the same seed gives the same bits with the same number of threads. On CUDA it does with
    ``deterministic``, on the same card and versions: only kernels with a fixed order of summation
    are used, an operation without one raises an error, and cuBLAS gets a fixed workspace (set
    before its first use in the process).
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            stack.enter_context(exact())
            before = torch.are_deterministic_algorithms_enabled()
            stack.callback(torch.use_deterministic_algorithms, before)
            torch.use_deterministic_algorithms(True)
        yield
