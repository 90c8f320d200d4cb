"""Weights of adapters as training leaves them."""

from __future__ import annotations


def shake(adapters, seed=0):
    """Move every weight of the adapters, so that they change the output visibly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
