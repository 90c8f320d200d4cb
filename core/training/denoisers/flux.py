"""Flux as a denoiser: a transformer that is trained by flow matching."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...lora import names as layer_names
from .diffusers import DiffusersDenoiser
from .protocol import Prediction, TextEmbeddings


class FluxDenoiser(DiffusersDenoiser):
    """Flux: a transformer that predicts the velocity of a straight path from image to noise.

    Timesteps are 1000 sigma. Sigma is drawn from the logit-normal distribution with location 0 and
    scale 1 (arXiv 2403.03206).
    """

    architecture = "flux-1-dev"
    _part = "transformer"
    guidance = 1.0
    """Distilled guidance that the transformer is told: at 1 its prediction is the plain one."""
    max_tokens = 512
    """Length that T5's tokens are padded to."""

    @property
    def prediction(self) -> Prediction:
        """``flow``."""
        return "flow"

    @property
    def pixel_step(self) -> int:
        """What widths and heights must be multiples of: the latents are packed two by two."""
        return 2 * self._vae_factor

    def file_key(self, part: str, path: str) -> str:
        """Return how a LoRA file calls a layer: ComfyUI and diffusers share these names."""
        return layer_names.diffusers(part, path)

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into T5's ``prompt_embeds`` and CLIP's ``pooled``."""
        embeds, pooled, _ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            prompt_2=None,
            device=self.device,
            num_images_per_prompt=1,
            max_sequence_length=self.max_tokens,
        )
        return TextEmbeddings({"prompt_embeds": embeds, "pooled": pooled})

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

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the transformer's prediction in float32, unpacked."""
        rows, channels, height, width = noisy.shape
        text = text.to(noisy.device, self._dtype)
        packed = self._pipeline._pack_latents(noisy.to(self._dtype), rows, channels, height, width)
        ids = self._pipeline._prepare_latent_image_ids(
            rows, height // 2, width // 2, noisy.device, self._dtype
        )
        tokens = text["prompt_embeds"]
        guidance = None
        if self._module.config.guidance_embeds:
            guidance = torch.full((rows,), self.guidance, device=noisy.device)
        velocity = self._module(
            hidden_states=packed,
            timestep=(timesteps.to(noisy.device) / 1000).to(self._dtype),
            guidance=guidance,
            pooled_projections=text["pooled"],
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(tokens.shape[1], 3, device=noisy.device, dtype=self._dtype),
            img_ids=ids,
        ).sample
        factor = self._vae_factor
        return self._pipeline._unpack_latents(
            velocity, height * factor, width * factor, factor
        ).float()
