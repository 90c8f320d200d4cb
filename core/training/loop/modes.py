"""How a process and its modules are set while they train, and set back afterwards."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import CuratorError
from ...generation.conditions import exact


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
def checkpointed(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Switch gradient checkpointing on for a while.

    Raises:
        CuratorError: The model does not know it.
    """
    if not wanted:
        yield
        return
    model: Any = module
    if not hasattr(model, "enable_gradient_checkpointing"):
        raise CuratorError(
            f"{type(module).__name__} has no gradient checkpointing. Switch gradient_checkpointing "
            "off, and lower the batch size or the resolution if memory is short."
        )
    before = getattr(model, "is_gradient_checkpointing", False)
    model.enable_gradient_checkpointing()
    try:
        yield
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
def heads_contiguous(device: torch.device) -> Iterator[None]:
    """On a CPU, let attention read every head's numbers side by side, for a while.

    Models hand over heads as views that lie scattered among each other's; torch's kernel then
    strides through memory once for every block of keys, which costs 2 to 4 % of a step of Stable
    Diffusion 1.5. A copy costs far less. Elsewhere nothing changes.
    """
    if device.type != "cpu":
        yield
        return
    attend: Any = F.scaled_dot_product_attention

    def attend_side_by_side(
        query: Tensor, key: Tensor, value: Tensor, *others: Any, **options: Any
    ) -> Tensor:
        heads = (part.contiguous() for part in (query, key, value))
        return attend(*heads, *others, **options)

    # Not a TorchFunctionMode: it sees every call of torch, which is 7 % of a step of a small model.
    F.scaled_dot_product_attention = attend_side_by_side
    try:
        yield
    finally:
        F.scaled_dot_product_attention = attend


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


# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MIB = 2**20


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """On a CPU, let what is done over and over have the memory that it has freed before.

    glibc hands large blocks back to the system as soon as they are free, which then has to clear
    every page of the next ones: some 5 % of a step of Stable Diffusion 1.5, and 17 % of encoding an
    image. Afterwards free memory is handed back. Where another allocator is at work nothing
    changes.

    Around training, enter it after the first step: what that leaves for good (libraries' buffers,
    the optimizer's state) would lie between the blocks that come and go and keep them apart, which
    costs up to a sixth of the memory.
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        # What glibc has come to by itself in a process that uses large blocks (mallopt(3)).
        libc.mallopt(_MMAP_MAX, 65_536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        libc.malloc_trim(0)
