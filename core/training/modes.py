"""How a process and its modules are set while they train, and set back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import CuratorError
from ..generation.conditions import exact


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
