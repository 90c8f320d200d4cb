"""Load a model for training: which family a pipeline of diffusers is of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...generation import models, pipelines
from ...generation.model_files import ModelFiles, located
from ...lora.file import PickleRefusedError
from ..settings import BasePrecision
from .diffusers import DiffusersDenoiser, UnknownModelError
from .flux import ChromaDenoiser, FluxDenoiser
from .flux2 import Flux2Denoiser
from .frozen_parts import PipelineSource
from .quantised import quantise
from .qwen_image import QwenImageDenoiser
from .stable_diffusion import SDXLDenoiser, StableDiffusionDenoiser
from .stable_diffusion_3 import StableDiffusion3Denoiser
from .z_image import ZImageDenoiser

_FAMILIES: Mapping[str, tuple[str, type[DiffusersDenoiser]]] = {
    "StableDiffusionXL": ("unet", SDXLDenoiser),
    "StableDiffusion3Pipeline": ("transformer", StableDiffusion3Denoiser),
    "StableDiffusion": ("unet", StableDiffusionDenoiser),
    "Flux2Pipeline": ("transformer", Flux2Denoiser),
    "Flux2KleinPipeline": ("transformer", Flux2Denoiser),
    "FluxPipeline": ("transformer", FluxDenoiser),
    "FluxKontextPipeline": ("transformer", FluxDenoiser),
    "ChromaPipeline": ("transformer", ChromaDenoiser),
    "QwenImagePipeline": ("transformer", QwenImageDenoiser),
    "ZImagePipeline": ("transformer", ZImageDenoiser),
}
"""By how the class of a pipeline begins, the first that fits: what is trained of it, and how."""


def load(
    model: str | Path = "miniature",
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    allow_pickle: bool = False,
    config: str | Path | None = None,
    precision: BasePrecision = "as_is",
) -> DiffusersDenoiser:
    """Load a model for training.

    Args:
        model: ``miniature``, the folder of a diffusers pipeline, a single ``.safetensors`` file, or
            an id of the Hugging Face hub.
        device: ``cpu``, ``cuda``, ``mps``; or ``auto``: the best there is.
        dtype: Of the frozen weights: ``float32``, ``float16``, ``bfloat16``; or ``auto``: float32
            on a CPU, else bfloat16.
        variant: The variant of the weights to load, such as ``fp16``.
        allow_pickle: Also load weights in Python's pickle format (``.bin``).
        config: Of a single file: where its configurations and tokenizers come from, as for
            :func:`...generation.single_file.configuration`.
        precision: What the weights of the diffusion model's blocks are held in.

    Raises:
        ModelNotFoundError: There is no such model, or it is not whole.
        PickleRefusedError: Weights are there as pickles only.
        UnknownModelError: It can't be trained here.
        ModelSettingsError: Device or number type is impossible.
        MissingDependencyError: The precision's library is not installed.
        BasePrecisionError: The weights can't be held so on this device.
    """
    kind = pipelines.device_of(device)
    options: dict[str, Any] = {} if variant is None else {"variant": variant}
    files = located(model, config, **options)
    folder = files.folder
    if not allow_pickle:
        _refuse_pickles(files)
    name = _dtype(folder, kind, dtype)
    if "safety_checker" in models.parts(folder):
        options |= {"safety_checker": None, "requires_safety_checker": False}
    source = PipelineSource(folder, getattr(torch, name), options, files.file)
    pipeline = source.load()
    part = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    said = "" if part is None else quantise(part, precision, kind)
    pipeline.to(kind)
    denoiser = of_pipeline(pipeline, _identity(files, variant, name, precision), source)
    denoiser.base_said = said
    return denoiser


def identity_of(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    config: str | Path | None = None,
    precision: BasePrecision = "as_is",
) -> str:
    """Return what :attr:`.protocol.Denoiser.identity` would be, without loading the weights.

    Args:
        model: As for :func:`load`, as are the others.
        device: It decides the number type, where that is ``auto``.
        dtype: Of the frozen weights.
        variant: The variant of the weights.
        config: Of a single file.
        precision: What the weights of the blocks are held in.
    """
    kind = pipelines.device_of(device)
    options: dict[str, Any] = {} if variant is None else {"variant": variant}
    files = located(model, config, **options)
    return _identity(files, variant, _dtype(files.folder, kind, dtype), precision)


def _dtype(folder: Path, device: str, dtype: str) -> str:
    # Gradients of half precision underflow; those of bfloat16 do not.
    wanted = "bfloat16" if dtype == "auto" and device != "cpu" else dtype
    return pipelines.dtype_of(wanted, device, folder)


def _identity(files: ModelFiles, variant: str | None, dtype: str, precision: BasePrecision) -> str:
    mark = f"{files.fingerprint(variant)} {dtype}"
    if precision != "as_is":
        mark += f" {precision}"
    return hashlib.sha256(mark.encode()).hexdigest()


def _refuse_pickles(files: ModelFiles) -> None:
    folder = files.folder
    for part in sorted(models.parts(folder) - {"safety_checker"} - files.brought):
        names = [file.name for file in (folder / part).glob("*") if file.is_file()]
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        if pickles and not any(name.endswith(".safetensors") for name in names):
            raise PickleRefusedError(
                f"{folder / part / pickles[0]} is a pickle, which could run any program when "
                "opened, and there is no .safetensors beside it. Take the model in that format; or "
                "allow pickles (--allow-pickle) if you trust where this one comes from."
            )


def of_pipeline(
    pipeline: Any, identity: str | None = None, source: PipelineSource | None = None
) -> DiffusersDenoiser:
    """Wrap a pipeline that is loaded already; its weights are frozen.

    Args:
        pipeline: Of diffusers.
        identity: Fingerprint of its weights; hashed from them if ``None``, which takes a while.
        source: What it was loaded from, if it may be loaded from there again: then its encoders do
            not take memory while they are not needed.

    Raises:
        UnknownModelError: It can't be trained here.
    """
    name = type(pipeline).__name__
    for start, (part, kind) in _FAMILIES.items():
        if name.startswith(start) and hasattr(pipeline, part):
            return kind(pipeline, identity, source)
    raise UnknownModelError(
        f"{name} can't be trained. Use a pipeline of one of: Stable Diffusion 1, 2, 3 and 3.5, "
        "SDXL, Flux.1, Flux.2, Chroma, Qwen-Image, Z-Image."
    )
