"""Loading pipelines of diffusers: device, number type, size, LoRA files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CuratorError
from . import models, single_file

if TYPE_CHECKING:
    from ..lora.file import LoraFile


class ModelSettingsError(CuratorError):
    """Settings that a model can't work with."""


class LoraError(CuratorError):
    """A LoRA file is missing or does not fit the model."""


def is_available(device: str) -> bool:
    """Whether this machine has a device of the kind "cpu", "cuda" or "mps"."""
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


def device_of(name: str) -> str:
    """Return the kind of device that a name (``auto``, ``cpu``, ``cuda``, ``mps``) stands for.

    Raises:
        ModelSettingsError: This machine has no such device.
    """
    there = [kind for kind in ("cuda", "mps", "cpu") if is_available(kind)]
    if name == "auto":
        return there[0]
    if not is_available(name):
        raise ModelSettingsError(
            f"There is no device '{name}' here. Use 'auto' or one of: {', '.join(there)}."
        )
    return name


def dtype_of(name: str, device: str, folder: Path) -> str:
    """Return the name of the number type that a pipeline in ``folder`` is run with.

    Raises:
        ModelSettingsError: The name is unknown.
    """
    if name == "auto":
        if device == "cpu":
            return "float32"
        return "float16" if "unet" in models.parts(folder) else "bfloat16"
    if name not in ("float32", "float16", "bfloat16"):
        raise ModelSettingsError(
            f"dtype = '{name}': use 'auto', 'float32', 'float16' or 'bfloat16'."
        )
    return name


def load(folder: Path, dtype: Any, options: Mapping[str, Any], file: Path | None = None) -> Any:
    """Load the text-to-image pipeline in a folder, whatever its family.

    Args:
        folder: Of the pipeline; of a single file, its configuration.
        dtype: Number type of the weights.
        options: For diffusers.
        file: The single file that weights come from.

    Raises:
        ModelNotFoundError: It can't be loaded.
    """
    import diffusers
    from diffusers import AutoPipelineForText2Image

    # diffusers renames torch_dtype to dtype; whoever knows the new name has this function.
    key = "dtype" if hasattr(diffusers.utils, "_resolve_dtype") else "torch_dtype"
    try:
        with _without_bars():
            if file is None:
                return AutoPipelineForText2Image.from_pretrained(folder, **{key: dtype}, **options)
            pipeline = single_file.load(file, folder, {key: dtype, **options})
    except pickle.UnpicklingError as error:
        raise models.unloadable(
            folder, "its weights are a pickle that holds more than tensors, which may be a program"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, EOFError) as error:
        raise models.unloadable(folder if file is None else file, str(error)) from error
    pipeline.scheduler = own_scheduler(folder, file)
    return pipeline


def lay_out(module: Any) -> None:
    """Give convolutions of images the layout that they compute in: a fifth faster, on any device.

    Those of videos stay as they are: an autoencoder may have both.
    """
    import torch

    if all(weight.dim() < 5 for weight in module.parameters()):
        module.to(memory_format=torch.channels_last)


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


def add_lora(pipeline: Any, path: Path, name: str) -> None:
    """Load a LoRA file into a pipeline as the adapter ``name``.

    Raises:
        LoraError: None of it fits the model.
        CheckpointError: It is not whole.
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise LoraError(f"{type(pipeline).__name__} takes no LoRA files.")
    from ..lora.in_diffusers import add_lycoris

    try:
        file = _own_file(pipeline, path)
        if file is not None and file.kind != "lora":
            add_lycoris(pipeline, file, name)
        else:
            source, options = _lora_source(pipeline, path, file)
            pipeline.load_lora_weights(source, adapter_name=name, **options)
        applied = any(name in names for names in pipeline.get_list_adapters().values())
        reason = "" if applied else "none of its weights belongs to a layer of the model"
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        _check_whole(path)
        reason = str(error)
    if reason:
        raise LoraError(
            f"The LoRA {path} does not fit the model {type(pipeline).__name__}: {reason}. Use one "
            "that was trained on this kind of model."
        )


def _check_whole(path: Path) -> None:
    """Say so where a LoRA file misses a part: then no other model would take it either.

    Raises:
        CheckpointError: A layer of it is not whole.
    """
    from ..lora import file as lora_file

    if path.suffix == ".safetensors":
        file = lora_file.read(path)
        with suppress(ValueError, KeyError, RuntimeError):
            for name in file.names:
                file.rank(name)


def _own_file(pipeline: Any, path: Path) -> LoraFile | None:
    """Return a file whose layers are a pipeline's by name; None if only diffusers may read it."""
    from ..lora import file as lora_file
    from ..lora import names as layer_names

    if path.suffix != ".safetensors":
        return None
    file = lora_file.read(path)
    # Files by other tools may use names that only diffusers can translate.
    if set(file.names) <= layer_names.of_pipeline(pipeline).keys():
        return file
    return None


def _lora_source(pipeline: Any, path: Path, file: LoraFile | None) -> tuple[Any, dict[str, Any]]:
    """Return what ``load_lora_weights`` is given: the file, or what it leaves out of DoRA files."""
    from ..lora import file as lora_file

    if file is not None and file.is_dora:
        return lora_file.for_diffusers(pipeline, file), {}
    return str(path.resolve().parent), {"weight_name": path.name}


def describe_lora(path: Path, weight: float) -> dict[str, Any]:
    """Return what a record says of a LoRA: ``path``, ``weight`` and ``sha256``.

    Raises:
        LoraError: There is no such file.
    """
    if not path.is_file():
        raise LoraError(f"There is no LoRA file at {path}. Name a .safetensors file.")
    return {"path": models.reference(path), "weight": weight, "sha256": models.file_hash(path)}


def own_scheduler(folder: Path, file: Path | None = None) -> Any:
    """Return the scheduler that the pipeline in a folder comes with, as a single file wants it.

    Raises:
        ModelNotFoundError: Its configuration is missing, or diffusers does not know it.
    """
    import diffusers

    name = models.class_of(folder, "scheduler")
    kind = getattr(diffusers, name, None)
    if kind is None:
        raise models.unloadable(folder, f"diffusers {diffusers.__version__} has no {name}")
    said = {} if file is None else single_file.scheduler_settings(file)
    return kind.from_config({**models.config(folder, "scheduler"), **said})


def passes_generators(pipeline_class: str) -> bool:
    """Whether pipelines of a class hand the rows' generators on to their scheduler."""
    import diffusers

    return hasattr(getattr(diffusers, pipeline_class, None), "prepare_extra_step_kwargs")


def size_of(folder: Path, width: int | None, height: int | None) -> tuple[int, int]:
    """Return width and height in pixels: what is given, else the model's own.

    Raises:
        ModelSettingsError: The model can't make that size.
    """
    has_unet = "unet" in models.parts(folder)
    latents = models.config(folder, "unet" if has_unet else "transformer").get("sample_size")
    # Models that name no size are those of 1024 pixels, 128 latents of 8 each.
    own = latents if isinstance(latents, (list, tuple)) else (latents or 128,) * 2
    blocks = models.config(folder, "vae").get("block_out_channels", (0,) * 4)
    factor = 2 ** (len(blocks) - 1)
    size = (width or own[1] * factor, height or own[0] * factor)
    # Transformers put two by two latents into one token.
    step = factor if has_unet else 2 * factor
    if any(side <= 0 or side % step for side in size):
        raise ModelSettingsError(
            f"{size[0]}x{size[1]} is no size for this model: both must be multiples of {step}."
        )
    return size
