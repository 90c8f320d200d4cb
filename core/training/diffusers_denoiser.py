"""Pipelines of diffusers as denoisers: Stable Diffusion 1 and 2, SDXL, Flux."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CuratorError
from ..generation import models, pipelines
from . import layer_names, samples
from .adapters import Adapters
from .buckets import Size
from .checkpoint import PickleRefusedError
from .denoiser import Prediction, TextEmbeddings
from .samples import SampleSettings


class UnknownModelError(CuratorError):
    """A model is of a kind that can't be trained."""


def load(
    model: str | Path = "miniature",
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    allow_pickle: bool = False,
) -> DiffusersDenoiser:
    """Load a model for training.

    Args:
        model: ``miniature``, the folder of a diffusers pipeline, or an id of the Hugging Face hub.
        device: ``cpu``, ``cuda``, ``mps``; or ``auto``: the best there is.
        dtype: Of the frozen weights: ``float32``, ``float16``, ``bfloat16``; or ``auto``: float32
            on a CPU, else bfloat16.
        variant: The variant of the weights to load, such as ``fp16``.
        allow_pickle: Also load weights in Python's pickle format (``.bin``).

    Raises:
        ModelNotFoundError: There is no such model, or it is not whole.
        PickleRefusedError: Weights are there as pickles only.
        UnknownModelError: It can't be trained here.
        SettingsError: Device or number type is impossible.
    """
    kind = pipelines.device_of(device)
    options: dict[str, Any] = {} if variant is None else {"variant": variant}
    folder = models.model_path(model) or models.downloaded(str(model), **options)
    if not allow_pickle:
        _refuse_pickles(folder)
    # Gradients of half precision underflow; those of bfloat16 do not.
    wanted = "bfloat16" if dtype == "auto" and kind != "cpu" else dtype
    name = pipelines.dtype_of(wanted, kind, folder)
    if "safety_checker" in models.parts(folder):
        options |= {"safety_checker": None, "requires_safety_checker": False}
    pipeline = pipelines.load(folder, getattr(torch, name), options)
    pipeline.to(kind)
    mark = f"{models.fingerprint(folder, variant)} {name}"
    return of_pipeline(pipeline, hashlib.sha256(mark.encode()).hexdigest())


def _refuse_pickles(folder: Path) -> None:
    for part in sorted(models.parts(folder) - {"safety_checker"}):
        names = [file.name for file in (folder / part).glob("*") if file.is_file()]
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        if pickles and not any(name.endswith(".safetensors") for name in names):
            raise PickleRefusedError(
                f"{folder / part / pickles[0]} is a pickle, which could run any program when "
                "opened, and there is no .safetensors beside it. Take the model in that format; or "
                "allow pickles (--allow-pickle) if you trust where this one comes from."
            )


def of_pipeline(pipeline: Any, identity: str | None = None) -> DiffusersDenoiser:
    """Wrap a pipeline that is loaded already; its weights are frozen.

    Args:
        pipeline: Of diffusers.
        identity: Fingerprint of its weights; hashed from them if ``None``, which takes a while.

    Raises:
        UnknownModelError: It can't be trained here.
    """
    name = type(pipeline).__name__
    if hasattr(pipeline, "transformer") and name.startswith("Flux"):
        return FluxDenoiser(pipeline, identity)
    if hasattr(pipeline, "unet") and name.startswith("StableDiffusionXL"):
        return SDXLDenoiser(pipeline, identity)
    if hasattr(pipeline, "unet") and name.startswith("StableDiffusion"):
        return StableDiffusionDenoiser(pipeline, identity)
    raise UnknownModelError(
        f"{name} can't be trained. Use a Stable Diffusion 1 or 2, SDXL or Flux pipeline."
    )


class DiffusersDenoiser(ABC):
    """What the families have in common; see :class:`.denoiser.Denoiser` for the methods."""

    architecture = ""
    _part = "unet"

    def __init__(self, pipeline: Any, identity: str | None = None) -> None:
        self.pipeline = pipeline
        self._module: Any = getattr(pipeline, self._part)
        for part in (self._module, pipeline.vae):
            # The layout that convolutions compute in: else they rearrange weights in every step.
            part.to(memory_format=torch.channels_last)
        # The number type is remembered: adapters, which come later, may have another.
        self._dtype = next(self._module.parameters()).dtype
        self._identity = identity
        # Adapters that are placed later rename layers and add weights: neither is part of it.
        modules = (self._module, pipeline.vae, *self._encoders())
        self._frozen = [m.state_dict() for m in modules] if identity is None else []
        for module in modules:
            module.requires_grad_(False).eval()

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
    def pixel_step(self) -> int:
        """What widths and heights must be multiples of, in pixels."""
        halvings = len(self._module.config.block_out_channels) - 1
        return int(self._vae_factor * 2**halvings)

    @property
    def _vae_factor(self) -> int:
        return int(2 ** (len(self.pipeline.vae.config.block_out_channels) - 1))

    def _encoders(self) -> list[torch.nn.Module]:
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        there = (getattr(self.pipeline, name, None) for name in names)
        return [encoder for encoder in there if encoder is not None]

    def module(self) -> torch.nn.Module:
        """Return the UNet or transformer."""
        return self._module

    def text_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the CLIP text encoders; T5 takes no adapters."""
        clips = [e for e in self._encoders() if type(e).__name__.startswith("CLIPText")]
        return {f"te{n}": encoder for n, encoder in enumerate(clips, start=1)}

    def file_key(self, part: str, path: str) -> str:
        """Return how a LoRA file calls a layer."""
        return layer_names.kohya(part, path, text_encoders=len(self.text_modules()))

    def encode_pixels(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode pictures, ``(n, 3, height, width)`` in [-1, 1], into scaled latents (float32)."""
        vae = self.pipeline.vae
        first = next(vae.parameters())
        # SDXL's autoencoder overflows in half precision; its configuration says so.
        if first.dtype == torch.float16 and vae.config.get("force_upcast"):
            vae.to(torch.float32)
            first = next(vae.parameters())
        with torch.no_grad():
            latents = vae.encode(pixels.to(first.device, first.dtype)).latent_dist
        drawn = latents.mode() if generator is None else latents.sample(generator)
        shift = vae.config.get("shift_factor") or 0.0
        return (drawn.float() - shift) * vae.config.scaling_factor

    @abstractmethod
    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions; gradients reach the text encoders where grad mode is on."""

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
        """Make sample pictures with the pipeline, whose modules carry the adapters."""
        return samples.sample(self.pipeline, settings, size)


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
        kind = self.pipeline.scheduler.config.get("prediction_type", "epsilon")
        if kind not in ("epsilon", "v_prediction"):
            raise UnknownModelError(f"A model that predicts '{kind}' can't be trained.")
        return kind

    @cached_property
    def _signal(self) -> Tensor:
        """Share of the signal's variance at each timestep (alpha-bar), on the CPU."""
        from diffusers import DDPMScheduler

        # Whatever scheduler the pipeline samples with, its betas are the training's.
        return DDPMScheduler.from_config(self.pipeline.scheduler.config).alphas_cumprod.float()

    def _shares(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal = self._signal[timesteps.cpu()].to(like.device).view(-1, 1, 1, 1)
        return signal.sqrt(), (1 - signal).sqrt()

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` of shape ``(n, tokens, width)``."""
        embeds = self.pipeline.encode_prompt(
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
    """SDXL: two text encoders; the UNet is told the picture's size (arXiv 2307.01952)."""

    @property
    def architecture(self) -> str:  # type: ignore[override]
        """``stable-diffusion-xl-v1-base``."""
        return "stable-diffusion-xl-v1-base"

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into ``prompt_embeds`` and ``pooled``."""
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
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


class FluxDenoiser(DiffusersDenoiser):
    """Flux: a transformer that predicts the velocity of a straight path from picture to noise.

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

    def text_modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the CLIP text encoder, whose pooled output the transformer is told."""
        return {"te1": self.pipeline.text_encoder}

    def encode_text(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode captions into T5's ``prompt_embeds`` and CLIP's ``pooled``."""
        embeds, pooled, _ = self.pipeline.encode_prompt(
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
        packed = self.pipeline._pack_latents(noisy.to(self._dtype), rows, channels, height, width)
        ids = self.pipeline._prepare_latent_image_ids(
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
        return self.pipeline._unpack_latents(
            velocity, height * factor, width * factor, factor
        ).float()


def _weights_hash(states: Sequence[Mapping[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for state in states:
        for name, tensor in sorted(state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
