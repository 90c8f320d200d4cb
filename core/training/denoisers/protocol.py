"""What a model must be able to do to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

    from ...lora.adapters import Adapters
    from ...lora.spelling import FileNames
    from ..data.buckets import Size
    from ..outputs.samples import SampleSettings

Prediction = Literal["epsilon", "v_prediction", "flow"]


@dataclass(frozen=True)
class TextEmbeddings:
    """What text encoders made of some captions.

    Attributes:
        tensors: By name; the first dimension of each is the captions'.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def index(self, rows: Sequence[int] | Tensor) -> TextEmbeddings:
        """Return the embeddings of some captions, in the order of ``rows``."""
        chosen = torch.as_tensor(rows, dtype=torch.long)
        return TextEmbeddings({k: v[chosen.to(v.device)] for k, v in self.tensors.items()})

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> TextEmbeddings:
        """Move the embeddings; ``dtype`` applies to floating-point tensors alone."""
        return TextEmbeddings(
            {
                k: v.to(device, dtype if v.is_floating_point() else None)
                for k, v in self.tensors.items()
            }
        )

    def cloned(self) -> TextEmbeddings:
        """Return the embeddings in memory of their own."""
        return TextEmbeddings({name: value.clone() for name, value in self.tensors.items()})

    @staticmethod
    def cat(items: Sequence[TextEmbeddings]) -> TextEmbeddings:
        """Join the embeddings of several groups of captions, in their order.

        Where captions have different numbers of tokens, zeros follow the shorter ones. What is
        said of some alone, such as a control image, has the size 0 in the others.
        """
        first: dict[str, Tensor] = {}
        for item in items:
            first = {**item.tensors, **first}
        return TextEmbeddings(
            {
                name: _joined([item.tensors.get(name, _nothing(like, len(item))) for item in items])
                for name, like in first.items()
            }
        )


def _nothing(like: Tensor, rows: int) -> Tensor:
    """Return rows of what a caption does not have, which padding fills up with zeros."""
    return like.new_zeros((rows, *(0 for _ in like.shape[1:])))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    whole = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([_padded(tensor, whole) for tensor in tensors])


def _padded(tensor: Tensor, whole: Sequence[int]) -> Tensor:
    """Put zeros behind a tensor's values, up to a size from its second dimension on."""
    missing = [size - own for size, own in zip(whole, tensor.shape[1:], strict=True)]
    if not any(missing):
        return tensor
    behind = [number for size in reversed(missing) for number in (0, size)]
    return torch.nn.functional.pad(tensor, behind)


class Denoiser(Protocol):
    """A frozen latent diffusion model, seen by a trainer.

    Latents are float tensors of shape ``(n, channels, height, width)``. Timesteps are tensors of
    shape ``(n,)`` in the model's own units. Nothing here changes a weight.
    """

    @property
    def prediction(self) -> Prediction:
        """What the model predicts."""

    @property
    def identity(self) -> str:
        """Fingerprint of the frozen weights and their number type, for caches."""

    @property
    def architecture(self) -> str:
        """The model's kind in the words of ModelSpec, such as ``stable-diffusion-v1``."""

    @property
    def pixel_step(self) -> int:
        """Widths and heights of images must be multiples of this, in pixels."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    @property
    def base_said(self) -> str:
        """What is to be said of how the base model is held; nothing where it is as it came."""

    @property
    def swaps(self) -> str:
        """How it keeps weights elsewhere itself while they do not compute (block swap), if so."""

    def module(self) -> torch.nn.Module:
        """Return the diffusion model that carries the adapters (a UNet or a transformer)."""

    def text_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the text encoders that can carry adapters, as ``te1``, ``te2``."""

    def file_key(self, part: str, path: str) -> str:
        """Return the one name of a layer, as a LoRA file may call it.

        Args:
            part: ``denoiser``, ``te1`` or ``te2``.
            path: The layer's path in its module, such as ``mid_block.attentions.0.proj_in``.
        """

    @property
    def file_names(self) -> FileNames:
        """How LoRA files may call the layers, by spelling."""

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode images into scaled latents.

        Args:
            pixels: ``(n, 3, height, width)`` in [-1, 1].
            generator: Draws from the encoder's distribution; its mean if ``None``.
        """

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions. Gradients reach the text encoders where grad mode is on."""

    def encode_edit(self, caption: str, controls: Sequence[Tensor]) -> TextEmbeddings:
        """Encode a caption with the control images that an edit model is shown with it.

        Args:
            caption: One caption.
            controls: An image each, ``(1, 3, height, width)`` in [-1, 1].

        Raises:
            CuratorError: The model takes no control images.
        """

    def offload_encoders(self) -> None:
        """Give back the memory of encoders that are not trained, until one is needed again.

        Called when all images and captions are encoded, before the first step.
        """

    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw timesteps from the distribution that the model is trained with."""

    def fixed_timesteps(self, k: int) -> Tensor:
        """Return the ``k`` mid-quantiles of that distribution, ascending."""

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents with the noise of their timesteps."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what a perfect model would predict."""

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the model's prediction in float32, with gradients where grad mode is on.

        Args:
            noisy: What :meth:`add_noise` gives.
            timesteps: A timestep a row.
            text: A caption a row.
            size: Width and height, in pixels, of the whole image that each row was made of,
                before it was scaled and cut. Only SDXL looks at it.
        """

    def snr(self, timesteps: Tensor) -> Tensor | None:
        """Return the signal-to-noise ratios; ``None`` for flow matching."""


class SamplingDenoiser(Denoiser, Protocol):
    """A denoiser that can also make images while it is trained."""

    def sample(self, adapters: Adapters, settings: SampleSettings, size: Size) -> np.ndarray:
        """Make sample images with the adapters as they are.

        Args:
            adapters: In place on the model, which is in evaluation mode.
            settings: Prompts and noise.
            size: Of the images.

        Returns:
            uint8 RGB array of shape ``(prompts, height, width, 3)``.
        """
