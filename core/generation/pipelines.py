"""Loading pipelines of diffusers: device, number type, size, LoRA files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CuratorError
from . import models


class SettingsError(CuratorError):
    """Settings that a model can't work with."""


class LoraError(CuratorError):
    """A LoRA file is missing or does not fit the model."""


def is_available(device: str) -> bool:
    """Whether this machine has a device of the kind "cpu", "cuda" or "mps"."""
    import torch

    return {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }.get(device.split(":")[0], lambda: False)()


def device_of(name: str) -> str:
    """Return the kind of device that a name (``auto``, ``cpu``, ``cuda``, ``mps``) stands for.

    Raises:
        SettingsError: This machine has no such device.
    """
    there = [kind for kind in ("cuda", "mps", "cpu") if is_available(kind)]
    if name == "auto":
        return there[0]
    if not is_available(name):
        raise SettingsError(
            f"There is no device '{name}' here. Use 'auto' or one of: {', '.join(there)}."
        )
    return name


def dtype_of(name: str, device: str, folder: Path) -> str:
    """Return the name of the number type that a pipeline in ``folder`` is run with.

    Raises:
        SettingsError: The name is unknown.
    """
    if name == "auto":
        if device == "cpu":
            return "float32"
        return "float16" if "unet" in models.parts(folder) else "bfloat16"
    if name not in ("float32", "float16", "bfloat16"):
        raise SettingsError(f"dtype = '{name}': use 'auto', 'float32', 'float16' or 'bfloat16'.")
    return name


def load(folder: Path, dtype: Any, options: Mapping[str, Any]) -> Any:
    """Load the text-to-image pipeline in a folder, whatever its family.

    Raises:
        ModelNotFoundError: It can't be loaded.
    """
    import diffusers
    from diffusers import AutoPipelineForText2Image

    # diffusers renames torch_dtype to dtype; whoever knows the new name has this function.
    key = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    try:
        with _without_bars():
            return AutoPipelineForText2Image.from_pretrained(folder, **{key: dtype}, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise models.ModelNotFoundError(
            f"The model in {folder} can't be loaded: {error}. Check that it is a text-to-image "
            "pipeline of diffusers and that every file of it is there."
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the libraries' own progress bars for parts of a model off the terminal."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def add_lora(pipeline: Any, path: Path, weight: float, name: str) -> dict[str, Any]:
    """Load a LoRA file into a pipeline as the adapter ``name``.

    Returns:
        What a record says of it: ``path``, ``weight``, ``sha256``.

    Raises:
        LoraError: The file is missing, or none of it fits the model.
    """
    if not path.is_file():
        raise LoraError(f"There is no LoRA file at {path}. Name a .safetensors file.")
    if not hasattr(pipeline, "load_lora_weights"):
        raise LoraError(f"{type(pipeline).__name__} takes no LoRA files.")
    try:
        pipeline.load_lora_weights(
            str(path.resolve().parent), weight_name=path.name, adapter_name=name
        )
        applied = any(name in names for names in pipeline.get_list_adapters().values())
        reason = "" if applied else "none of its weights belongs to a layer of the model"
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        reason = str(error)
    if reason:
        raise LoraError(
            f"The LoRA {path} does not fit the model {type(pipeline).__name__}: {reason}. Use one "
            "that was trained on this kind of model."
        )
    return {
        "path": models.reference(path),
        "weight": weight,
        "sha256": models.file_hash(path),
    }


def size_of(pipeline: Any, width: int | None, height: int | None) -> tuple[int, int]:
    """Return width and height in pixels: what is given, else the model's own.

    Raises:
        SettingsError: The model can't make that size.
    """
    core = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    factor = int(getattr(pipeline, "vae_scale_factor", 8))
    own = getattr(pipeline, "default_sample_size", None)
    own = own or getattr(getattr(core, "config", None), "sample_size", None) or 64
    sizes = []
    for given, default in ((width, own), (height, own if isinstance(own, int) else own[1])):
        default = default if isinstance(default, int) else default[0]
        sizes.append(given or default * factor)
    # Transformers put two by two latents into one token.
    step = factor if getattr(pipeline, "unet", None) is not None else 2 * factor
    if any(size <= 0 or size % step for size in sizes):
        raise SettingsError(
            f"{sizes[0]}x{sizes[1]} is no size for this model: both must be multiples of {step}."
        )
    return sizes[0], sizes[1]
