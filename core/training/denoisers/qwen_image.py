"""Qwen-Image as a denoiser: an autoencoder of videos, and captions as long as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .flow import FlowDenoiser
from .protocol import TextEmbeddings


class QwenImageDenoiser(FlowDenoiser):
    """Qwen-Image: an image is a video of one frame; shorter captions of a batch are masked."""

    architecture = "qwen-image"
    max_tokens = 512
    """Tokens of a caption beyond these are cut off, as the pipeline does by itself."""

    def _as_input(self, pixels: Tensor) -> Tensor:
        return pixels.unsqueeze(2)

    def _scaled(self, latents: Tensor, vae: Any) -> Tensor:
        mean, spread = (
            torch.tensor(values).view(1, -1, 1, 1).to(latents)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return (latents.squeeze(2) - mean) / spread

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` and a ``mask``, 1 for tokens and 0 behind them."""
        embeds, mask = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            device=self.device,
            num_images_per_prompt=1,
            max_sequence_length=self.max_tokens,
        )
        if mask is None:  # the pipeline's word for captions of equal length
            mask = embeds.new_ones(embeds.shape[:2], dtype=torch.long)
        return TextEmbeddings({"prompt_embeds": embeds, "mask": mask})

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
        guidance = None
        if self._module.config.guidance_embeds:
            guidance = torch.ones(rows, device=noisy.device)
        velocity = self._module(
            hidden_states=self._pipeline._pack_latents(
                noisy.to(self._dtype), rows, channels, height, width
            ),
            timestep=self._time(timesteps, noisy) / 1000,
            guidance=guidance,
            encoder_hidden_states=text["prompt_embeds"],
            encoder_hidden_states_mask=None if text["mask"].all() else text["mask"],
            img_shapes=[[(1, height // 2, width // 2)]] * rows,
        ).sample
        factor = self._vae_factor
        frames = self._pipeline._unpack_latents(velocity, height * factor, width * factor, factor)
        return frames.squeeze(2).float()
