"""Stable Diffusion 1 and 2, and SDXL, as denoisers: UNets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .diffusers import DiffusersDenoiser, UnknownModelError
from .protocol import Prediction, TextEmbeddings


class StableDiffusionDenoiser(DiffusersDenoiser):
    """Stable Diffusion 1 and 2: a UNet that predicts the noise or the velocity."""

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """``stable-diffusion-v1``, ``stable-diffusion-v2-512`` or ``stable-diffusion-v2-768-v``."""
        if self._module.config.cross_attention_dim != 1024:  # the width of OpenCLIP's ViT-H
            return "stable-diffusion-v1"
        return f"stable-diffusion-v2-{'512' if self.prediction == 'epsilon' else '768-v'}"

    @cached_property
    def prediction(self) -> Prediction:
        """``epsilon`` or ``v_prediction``, as the model's scheduler says."""
        kind = self._pipeline.scheduler.config.get("prediction_type", "epsilon")
        if kind not in ("epsilon", "v_prediction"):
            raise UnknownModelError(f"A model that predicts '{kind}' can't be trained.")
        return kind

    @cached_property
    def _signal(self) -> Tensor:
        """Share of the signal's variance at each timestep (alpha-bar), on the CPU."""
        from diffusers import DDPMScheduler

        # Whatever scheduler the pipeline samples with, its betas are the training's.
        return DDPMScheduler.from_config(self._pipeline.scheduler.config).alphas_cumprod.float()

    def _shares(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal = self._signal[timesteps.cpu()].to(like.device).view(-1, 1, 1, 1)
        return signal.sqrt(), (1 - signal).sqrt()

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` of shape ``(n, tokens, width)``."""
        embeds = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )[0]
        return TextEmbeddings({"prompt_embeds": embeds})

    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw timesteps evenly from 0 to 999; int64."""
        return torch.randint(len(self._signal), (n,), generator=generator).to(self.device)

    def fixed_timesteps(self, k: int) -> Tensor:
        """Return the middles of ``k`` equal parts of the timesteps; int64."""
        return ((torch.arange(k) + 0.5) / k * len(self._signal)).long().to(self.device)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mix signal and noise so that the variance stays 1 (DDPM, arXiv 2006.11239)."""
        signal, spread = self._shares(timesteps, latents)
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise, or the velocity (arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._shares(timesteps, latents)
        return signal * noise - spread * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        """Return alpha-bar / (1 - alpha-bar) of each timestep."""
        signal = self._signal[timesteps.cpu()].to(timesteps.device)
        return signal / (1 - signal)

    def _added(self, noisy: Tensor, text: TextEmbeddings, size: Sequence[tuple[int, int]]) -> Any:
        return None

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the UNet's prediction in float32."""
        text = text.to(noisy.device, self._dtype)
        return self._module(
            noisy.to(self._dtype),
            timesteps,
            encoder_hidden_states=text["prompt_embeds"],
            added_cond_kwargs=self._added(noisy, text, size),
        ).sample.float()


class SDXLDenoiser(StableDiffusionDenoiser):
    """SDXL: two text encoders; the UNet is told the image's size (arXiv 2307.01952)."""

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """``stable-diffusion-xl-v1-base``."""
        return "stable-diffusion-xl-v1-base"

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` and ``pooled``."""
        embeds, _, pooled, _ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return TextEmbeddings({"prompt_embeds": embeds, "pooled": pooled})

    def _added(self, noisy: Tensor, text: TextEmbeddings, size: Sequence[tuple[int, int]]) -> Any:
        """Say the original size, no cropping (as at inference), and the size of the latents."""
        height, width = (edge * self._vae_factor for edge in noisy.shape[-2:])
        ids = [(high, wide, 0, 0, height, width) for wide, high in size]
        time_ids = torch.tensor(ids, dtype=self._dtype, device=noisy.device)
        return {"text_embeds": text["pooled"], "time_ids": time_ids}
