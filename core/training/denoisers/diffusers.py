"""Pipelines of diffusers as denoisers: what all their families have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CuratorError
from ...lora import names as layer_names
from ...lora.adapters import Adapters
from ...lora.spelling import FileNames
from ..data.buckets import Size
from ..outputs import samples
from ..outputs.samples import SampleSettings
from . import frozen_parts
from .frozen_parts import PipelineSource
from .protocol import Prediction, TextEmbeddings


class UnknownModelError(CuratorError):
    """A model is of a kind that can't be trained."""


class DiffusersDenoiser(ABC):
    """What the families have in common; see :class:`.protocol.Denoiser` for the methods."""

    architecture = ""
    swaps = ""
    base_said = ""
    _part = "unet"

    def __init__(
        self, pipeline: Any, identity: str | None = None, source: PipelineSource | None = None
    ) -> None:
        self._pipeline, self._identity, self._source = pipeline, identity, source
        self._module: Any = getattr(pipeline, self._part)
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        self._encoders = tuple(n for n in names if getattr(pipeline, n, None) is not None)
        # Known for good: adapters, which come later, may have another number type.
        self._dtype = next(self._module.parameters()).dtype
        modules = [getattr(pipeline, name) for name in (self._part, "vae", *self._encoders)]
        for module in modules:
            frozen_parts.freeze(module)
        # Adapters that are placed later rename layers and add weights: neither is part of it.
        self._frozen = [m.state_dict() for m in modules] if identity is None else []

    @property
    @abstractmethod
    def prediction(self) -> Prediction:
        """What the model predicts."""

    @property
    def identity(self) -> str:
        """Fingerprint of the frozen weights and their number type."""
        if self._identity is None:
            self._identity = _weights_hash(self._frozen)
            self._frozen = []
        return self._identity

    @property
    def device(self) -> torch.device:
        """Where the diffusion model is."""
        return next(self._module.parameters()).device

    @property
    def pipeline(self) -> Any:
        """The pipeline, whole."""
        return self._with("vae", *self._encoders)

    def _with(self, *names: str) -> Any:
        """Return the pipeline after some of its parts were loaded again if they were offloaded."""
        if self._source is not None:
            frozen_parts.reload(self._pipeline, names, self._source, self.device)
        return self._pipeline

    def offload_encoders(self) -> None:
        """Give back the memory of the autoencoder and of text encoders that are not trained.

        They are loaded again when they are needed, if it is known where from; else they stay.
        """
        for name in ("vae", *self._encoders):
            part = getattr(self._pipeline, name)
            if self._source is not None and not frozen_parts.is_trained(part):
                frozen_parts.offload(part)

    @property
    def pixel_step(self) -> int:
        """What widths and heights must be multiples of, in pixels."""
        halvings = len(self._module.config.block_out_channels) - 1
        return int(self._vae_factor * 2**halvings)

    @property
    def _vae_factor(self) -> int:
        return int(2 ** (len(self._pipeline.vae.config.block_out_channels) - 1))

    @property
    def _clips(self) -> list[str]:
        """Names of the text encoders of CLIP's kind; T5 and language models take no adapters."""
        kinds = {name: type(getattr(self._pipeline, name)).__name__ for name in self._encoders}
        return [name for name, kind in kinds.items() if kind.startswith("CLIPText")]

    def module(self) -> torch.nn.Module:
        """Return the UNet or transformer."""
        return self._module

    def text_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the CLIP text encoders; T5 and language models take no adapters."""
        pipeline = self._with(*self._encoders)
        return {f"te{n}": getattr(pipeline, name) for n, name in enumerate(self._clips, start=1)}

    def file_key(self, part: str, path: str) -> str:
        """Return how a LoRA file calls a layer."""
        return layer_names.kohya(part, path, text_encoders=len(self._clips))

    @property
    def file_names(self) -> FileNames:
        """How LoRA files may call the layers: UNets as kohya does, transformers as diffusers."""
        if self._part == "unet":
            return FileNames("kohya", {"kohya": self.file_key})
        return FileNames("diffusers", {"diffusers": self.file_key})

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode images, ``(n, 3, height, width)`` in [-1, 1], into scaled latents (float32)."""
        vae = self._with("vae").vae
        first = next(vae.parameters())
        # SDXL's autoencoder overflows in half precision; its configuration says so.
        if first.dtype == torch.float16 and vae.config.get("force_upcast"):
            vae.to(torch.float32)
            first = next(vae.parameters())
        with torch.no_grad():
            latents = vae.encode(self._as_input(pixels.to(first.device, first.dtype))).latent_dist
        drawn = latents.mode() if generator is None else latents.sample(generator)
        return self._scaled(drawn.float(), vae)

    def _as_input(self, pixels: Tensor) -> Tensor:
        """Return images in the shape that the autoencoder takes."""
        return pixels

    def _scaled(self, latents: Tensor, vae: Any) -> Tensor:
        """Return the autoencoder's latents as the model is trained on them."""
        shift = vae.config.get("shift_factor") or 0.0
        return (latents - shift) * vae.config.scaling_factor

    @abstractmethod
    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions; gradients reach the text encoders where grad mode is on."""

    def encode_edit(self, caption: str, controls: Sequence[Tensor]) -> TextEmbeddings:
        """Encode a caption with control images, where the family takes some.

        Raises:
            UnknownModelError: It takes none.
        """
        raise UnknownModelError(
            f"{type(self._pipeline).__name__} takes no control images here; FluxKontextPipeline "
            "does. In ComfyUI, TrainLoRA also trains Qwen-Image-Edit, Flux.2 and OmniGen2 with "
            "them. Leave control_images out, or use such a model."
        )

    @abstractmethod
    def sample_timesteps(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw timesteps from the distribution that the model is trained with."""

    @abstractmethod
    def fixed_timesteps(self, k: int) -> Tensor:
        """Return the ``k`` mid-quantiles of that distribution, ascending."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents with the noise of their timesteps."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what a perfect model would predict."""

    @abstractmethod
    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbeddings,
        size: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the model's prediction in float32."""

    @abstractmethod
    def snr(self, timesteps: Tensor) -> Tensor | None:
        """Return the signal-to-noise ratios; ``None`` for flow matching."""

    def sample(self, adapters: Adapters, settings: SampleSettings, size: Size) -> np.ndarray:
        """Make sample images with the pipeline, whose modules carry the adapters."""
        offloaded = frozen_parts.is_offloaded(self._pipeline.vae)
        try:
            return samples.sample(self.pipeline, settings, size)
        finally:
            if offloaded:
                self.offload_encoders()


def _weights_hash(states: Sequence[Mapping[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for state in states:
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
