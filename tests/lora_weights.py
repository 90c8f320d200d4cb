"""Models to train, and weights of adapters as training leaves them."""

from __future__ import annotations

import copy
from functools import cache


@cache
def _loaded(folder):
    from diffusers import AutoPipelineForText2Image

    return AutoPipelineForText2Image.from_pretrained(folder)


def pipeline_in(folder):
    """A pipeline of its own, copied from one that is loaded once: many tests change theirs."""
    return copy.deepcopy(_loaded(folder))


def shake(adapters, seed=0):
    """Move every weight of the adapters, so that they change the output visibly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
