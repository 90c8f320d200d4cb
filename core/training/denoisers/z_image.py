"""Z-Image as a denoiser: a transformer that takes a list of images and of captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .flow import FlowDenoiser
from .protocol import TextEmbeddings


class ZImageDenoiser(FlowDenoiser):
    """Z-Image: its time runs from noise to image, and so does the velocity that it predicts."""

    architecture = "z-image"
    max_tokens = 512
    """Tokens of a caption beyond these are cut off."""

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` and a ``mask``, 1 for tokens and 0 behind them."""
        rows, _ = self._with(*self._encoders).encode_prompt(
            prompt=list(captions),  # the pipeline writes into the list that it is given
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return TextEmbeddings.cat(
            [
                TextEmbeddings(
                    {
                        "prompt_embeds": row[None],
                        "mask": row.new_ones((1, len(row)), dtype=torch.long),
                    }
                )
                for row in rows
            ]
        )

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the prediction in float32, as the velocity from image to noise."""
        text = text.to(noisy.device, self._dtype)
        captions = zip(text["prompt_embeds"], text["mask"].bool(), strict=True)
        frames = self._module(
            list(noisy.to(self._dtype).unsqueeze(2).unbind(dim=0)),
            (1000 - timesteps.to(noisy.device)) / 1000,
            [tokens[mask] for tokens, mask in captions],
            return_dict=False,
        )[0]
        return -torch.stack([frame.float() for frame in frames]).squeeze(2)
