"""Flux.1 and Chroma as denoisers: transformers that see two by two latents as a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .diffusers import UnknownModelError
from .flow import FlowDenoiser
from .protocol import TextEmbeddings

_CONTROL, _CONTROL_SIZE = "control", "size of control"


class FluxDenoiser(FlowDenoiser):
    """Flux.1, told by T5 and CLIP what to show."""

    architecture = "flux-1-dev"
    guidance = 1.0
    """Distilled guidance that the transformer is told: at 1 its prediction is the plain one."""
    max_tokens = 512
    """Length that T5's tokens are padded to."""

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

    def encode_edit(self, caption: str, controls: Sequence[Tensor]) -> TextEmbeddings:
        """Encode a caption, and the latents of Kontext's control images beside it.

        Raises:
            UnknownModelError: It is another Flux, or there are several control images.
        """
        if not type(self._pipeline).__name__.startswith("FluxKontext"):
            return super().encode_edit(caption, controls)
        if len(controls) != 1:
            raise UnknownModelError(
                f"FluxKontextPipeline takes one control image for each image, not {len(controls)}: "
                "put them into one, side by side, as its users do."
            )
        latents = self.encode_pixels(controls[0], None)
        size = torch.tensor([latents.shape[-2:]])
        text = self.encode_text([caption])
        return TextEmbeddings({**text.tensors, _CONTROL: latents, _CONTROL_SIZE: size})

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the transformer's prediction in float32, unpacked."""
        sizes = text.tensors.get(_CONTROL_SIZE)
        if sizes is not None and len(sizes.unique(dim=0)) > 1:  # no mask tells what is padded
            parts = [
                self.predict(noisy[n : n + 1], timesteps[n : n + 1], text.index([n]), size[n:])
                for n in range(len(noisy))
            ]
            return torch.cat(parts)
        rows, channels, height, width = noisy.shape
        text = text.to(noisy.device, self._dtype)
        packed = self._pipeline._pack_latents(noisy.to(self._dtype), rows, channels, height, width)
        ids = self._pipeline._prepare_latent_image_ids(
            rows, height // 2, width // 2, noisy.device, self._dtype
        )
        own = packed.shape[1]
        if sizes is not None and int(sizes[0].prod()):
            packed, ids = self._with_control(packed, ids, text[_CONTROL], sizes[0].tolist())
        tokens = text["prompt_embeds"]
        velocity = self._module(
            hidden_states=packed,
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(tokens.shape[1], 3, device=noisy.device, dtype=self._dtype),
            img_ids=ids,
            **self._further(text, timesteps.to(noisy.device), packed),
        ).sample
        factor = self._vae_factor
        return self._pipeline._unpack_latents(
            velocity[:, :own], height * factor, width * factor, factor
        ).float()

    def _with_control(
        self, packed: Tensor, ids: Tensor, latents: Tensor, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Put a control image's tokens behind the image's, as Kontext's pipeline does."""
        height, width = size
        shown = latents[..., :height, :width]
        rows, channels = shown.shape[:2]
        there = self._pipeline._pack_latents(shown, rows, channels, height, width)
        places = self._pipeline._prepare_latent_image_ids(
            rows, height // 2, width // 2, packed.device, self._dtype
        )
        places[..., 0] = 1  # what the first coordinate is for: the image's own tokens have 0
        return torch.cat([packed, there], dim=1), torch.cat([ids, places], dim=0)

    def _further(self, text: TextEmbeddings, timesteps: Tensor, packed: Tensor) -> dict[str, Any]:
        """Return what else this family's transformer is told."""
        guidance = None
        if self._module.config.guidance_embeds:
            guidance = torch.full((len(packed),), self.guidance, device=packed.device)
        return {
            "timestep": (timesteps / 1000).to(self._dtype),
            "guidance": guidance,
            "pooled_projections": text["pooled"],
        }


class ChromaDenoiser(FluxDenoiser):
    """Chroma: Flux.1's layout without CLIP and guidance, with a mask over T5's padding."""

    architecture = "chroma"

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` and the ``mask`` that the pipeline gives them."""
        embeds, _, mask, *_ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return TextEmbeddings({"prompt_embeds": embeds, "mask": mask})

    def _further(self, text: TextEmbeddings, timesteps: Tensor, packed: Tensor) -> dict[str, Any]:
        rows, tokens, _ = packed.shape
        mask = self._pipeline._prepare_attention_mask(
            batch_size=rows,
            sequence_length=tokens,
            dtype=self._dtype,
            attention_mask=text["mask"],
        )
        return {"timestep": self._time(timesteps, packed) / 1000, "attention_mask": mask}
