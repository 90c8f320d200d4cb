"""The recipe of the miniature's text-to-image model, at toy sizes."""

from __future__ import annotations

import torch

from miniature.recipe.diffusion import DiffusionRecipe
from miniature.recipe.vae import VaeRecipe

TINY_VAE = VaeRecipe(channels=(8, 8, 8, 8), groups=4, batch=4, crop=32)
TINY = DiffusionRecipe(
    channels=(32, 32), heads=2, text_width=32, text_layers=1, text_heads=2, batch=4
)


def same_weights(first, second):
    """Say whether two modules hold the same tensors to the bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
