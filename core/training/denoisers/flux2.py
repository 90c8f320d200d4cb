"""Flux.2 (dev and Klein) as denoisers: latents of 16 pixels, normalised by a batch norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .flow import FlowDenoiser
from .protocol import TextEmbeddings


class Flux2Denoiser(FlowDenoiser):
    """Flux.2: a cell of its latents is what the autoencoder made of two by two cells."""

    guidance = 1.0
    """Distilled guidance that dev's transformer is told; Klein's takes none."""
    max_tokens = 512
    """Length that the text's tokens are padded to."""

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """``flux-2-dev``; without distilled guidance ``flux-2-klein-4b`` or ``-9b``."""
        config = self._module.config
        if config.guidance_embeds:
            return "flux-2-dev"
        # Three layers of Qwen3 4B, whose width is 2560, or of Qwen3 8B, whose width is 4096.
        return f"flux-2-klein-{'4b' if config.joint_attention_dim <= 3 * 2560 else '9b'}"

    def _scaled(self, latents: Tensor, vae: Any) -> Tensor:
        cells = self._pipeline._patchify_latents(latents)
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(cells)
        variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps
        return (cells - mean) / variance.sqrt().to(cells)

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds``: three layers of the language model, joined."""
        embeds, _ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            device=self.device,
            num_images_per_prompt=1,
            max_sequence_length=self.max_tokens,
        )
        return TextEmbeddings({"prompt_embeds": embeds})

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the transformer's prediction in float32, as cells."""
        pipeline, device = self._pipeline, noisy.device
        tokens = text.to(device, self._dtype)["prompt_embeds"]
        guidance = None
        if self._module.config.guidance_embeds:
            guidance = torch.full((len(noisy),), self.guidance, device=device)
        ids = pipeline._prepare_latent_ids(noisy).to(device)
        velocity = self._module(
            hidden_states=pipeline._pack_latents(noisy.to(self._dtype)),
            timestep=self._time(timesteps, noisy) / 1000,
            guidance=guidance,
            encoder_hidden_states=tokens,
            txt_ids=pipeline._prepare_text_ids(tokens).to(device),
            img_ids=ids,
        ).sample
        return pipeline._unpack_latents_with_ids(velocity, ids).float()
