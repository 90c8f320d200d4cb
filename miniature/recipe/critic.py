"""A critic that tells decoded images from drawn ones, so that the decoder stops blurring.

What a decoder cannot know exactly, such as each strand of hair, it averages under a pixel loss, and
averages are blurred. As in the autoencoder of Stable Diffusion (Rombach et al. 2022,
arXiv 2112.10752, section 3.1; Isola et al. 2017, arXiv 1611.07004), a critic of small patches makes
it draw something plausible instead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class PatchCritic(nn.Module):
    """Judges every patch of about 30 pixels: high where it looks drawn, low where decoded."""

    def __init__(self, channels: tuple[int, ...] = (24, 48, 64)) -> None:
        """Build the critic.

        Args:
            channels: Of its layers; each but the first halves the image.
        """
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for depth, width in enumerate(channels):
            layer = nn.Conv2d(before, width, 3 if depth == 0 else 4, 1 if depth == 0 else 2, 1)
            layers += [spectral_norm(layer), nn.LeakyReLU(0.2)]
            before = width
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(before, 1, 4, 2, 1)))

    def forward(self, drawn: Tensor) -> Tensor:
        """Map images (n, 3, h, w) in [-1, 1] to judgements (n, 1, h / 8, w / 8)."""
        return self.layers(drawn)


def critic_loss(critic: PatchCritic, drawn: Tensor, decoded: Tensor) -> Tensor:
    """Return the hinge loss by which the critic learns; no gradient reaches the decoder."""
    real, made = critic(drawn), critic(decoded.detach())
    return functional.relu(1 - real).mean() + functional.relu(1 + made).mean()


def decoder_loss(critic: PatchCritic, decoded: Tensor) -> Tensor:
    """Return how much the critic dislikes decoded images; no gradient reaches the critic."""
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    with torch.no_grad():
        state = {name: value.clone() for name, value in critic.named_buffers()}
    return -functional_call(critic, {**frozen, **state}, (decoded,)).mean()
