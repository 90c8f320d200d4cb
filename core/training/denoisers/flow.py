"""Transformers that are trained by flow matching: what all their families have in common."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...lora import names as layer_names
from .diffusers import DiffusersDenoiser
from .protocol import Prediction


class FlowDenoiser(DiffusersDenoiser):
    """A transformer that predicts the velocity of a straight path from image to noise.

    Timesteps are 1000 sigma. Sigma is drawn from the logit-normal distribution with location 0 and
    scale 1 (arXiv 2403.03206).
    """

    _part = "transformer"

    @property
    def prediction(self) -> Prediction:
        """``flow``."""
        return "flow"

    @property
    def _vae_factor(self) -> int:
        return int(self._pipeline.vae_scale_factor)

    @property
    def pixel_step(self) -> int:
        """What widths and heights must be multiples of: a token is of two by two latents."""
        return 2 * self._vae_factor

    def file_key(self, part: str, path: str) -> str:
        """Return how a LoRA file calls a layer: ComfyUI and diffusers share these names."""
        return layer_names.diffusers(part, path)

    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw timesteps between 0 and 1000; float32."""
        return (1000 * torch.randn(n, generator=generator).sigmoid()).to(self.device)

    def fixed_timesteps(self, k: int) -> Tensor:
        """Return the ``k`` mid-quantiles of the logit-normal distribution."""
        shares = (torch.arange(k, dtype=torch.float64) + 0.5) / k
        normal = math.sqrt(2) * torch.erfinv(2 * shares - 1)
        return (1000 * normal.sigmoid()).float().to(self.device)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Go the share sigma of the way from latents to noise."""
        sigma = (timesteps.to(latents.device) / 1000).view(-1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the path's velocity, noise - latents."""
        return noise - latents

    def snr(self, timesteps: Tensor) -> None:
        """Flow matching has no weights by signal-to-noise ratio."""
        return

    def _time(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """Return timesteps as the pipelines hand them on, in the model's number type."""
        return timesteps.to(like.device, self._dtype)
