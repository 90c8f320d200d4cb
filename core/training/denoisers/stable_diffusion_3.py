"""Stable Diffusion 3 and 3.5 as denoisers: a transformer, two CLIPs and T5."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .flow import FlowDenoiser
from .protocol import TextEmbeddings


class StableDiffusion3Denoiser(FlowDenoiser):
    """Stable Diffusion 3 and 3.5: the transformer takes latents as they are."""

    max_tokens = 256
    """Length that T5's tokens are padded to."""

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """``stable-diffusion-3-medium``, ``-3-5-medium`` or ``-3-5-large``."""
        config = self._module.config
        if not config.get("qk_norm"):
            return "stable-diffusion-3-medium"
        # 3.5 Medium alone has blocks that attend to the image twice.
        size = "medium" if config.get("dual_attention_layers") else "large"
        return f"stable-diffusion-3-5-{size}"

    @property
    def pixel_step(self) -> int:
        """What widths and heights must be multiples of."""
        return self._vae_factor * int(self._module.config.patch_size)

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` of all encoders and the CLIPs' ``pooled``."""
        embeds, _, pooled, _ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return TextEmbeddings({"prompt_embeds": embeds, "pooled": pooled})

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the transformer's prediction in float32."""
        text = text.to(noisy.device, self._dtype)
        return self._module(
            hidden_states=noisy.to(self._dtype),
            timestep=timesteps.to(noisy.device),
            encoder_hidden_states=text["prompt_embeds"],
            pooled_projections=text["pooled"],
        ).sample.float()
