"""The blocks of a model: what is computed twice to save activations, and what is swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the largest parts of a model that are called as modules: lists of parts are not."""
    for child in model.children():
        if isinstance(child, _LISTS):
            yield from blocks(child)
        else:
            yield child


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return those of :func:`blocks` that are in lists and hold several layers, in their order."""
    found = [
        block for child in model.children() if isinstance(child, _LISTS) for block in blocks(child)
    ]
    return [block for block in found if any(block.children())]


@contextmanager
def checkpointed_blocks(model: nn.Module, share: float) -> Iterator[tuple[int, int]]:
    """Compute the activations of a model's first blocks twice, for a while.

    Args:
        model: A diffusion model; its blocks are called as modules.
        share: How many of its repeated blocks, one at least.

    Yields:
        How many blocks that are, and of how many.
    """
    found = repeated_blocks(model)
    first = found[: max(1, round(share * len(found)))]
    # What is swapped computes twice already.
    chosen = [block for block in first if "forward" not in vars(block)]
    for block in chosen:
        block.forward = checkpointed(block.forward)
    try:
        yield len(first), len(found)
    finally:
        for block in chosen:
            unwrap(block)


def checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a block's method that computes its activations again for the backward pass."""

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


def unwrap(block: nn.Module) -> None:
    """Give a block its own method back, if :func:`checkpointed` took its place."""
    if hasattr(block.__dict__.get("forward"), "is_checkpointed"):
        del block.forward


def _copy(value: Any) -> Any:
    is_changed = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.clone() if is_changed else value
