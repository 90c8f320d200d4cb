"""Checkpoints in one ``.safetensors`` file: what is in them, where the rest of a model comes from.

Such a file holds weights, of a whole pipeline or of its UNet or transformer alone. Configurations
and tokenizers come from a folder of diffusers, of which nothing else is read where the file has it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..hub import is_offline
from ..json_text import parse
from ..plain_files import plain
from . import models
from .models import ModelNotFoundError

CONFIGURATIONS = ["**/*.json", "*.json", "*.txt", "**/*.txt", "**/*.model"]
"""What of a hub's model is not weights."""

_DENOISERS = ("unet", "transformer")
_VAE = ("first_stage_model.", "vae.")
_CLIP = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.clip_")
_T5 = ("text_encoders.t5xxl.",)
_OF_A_LORA = (
    ".lora_down.weight", ".lora_up.weight", ".lora_A.weight", ".lora_B.weight",
    ".lokr_w1", ".lokr_w1_a", ".hada_w1_a",
)  # fmt: skip
_FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"


def shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file, by name; the weights are not read.

    Raises:
        ModelNotFoundError: It is no safetensors file, or a LoRA.
    """
    if file.suffix != ".safetensors":
        raise ModelNotFoundError(
            f"{file} is no .safetensors file. Files of other kinds may be pickles, which could run "
            "any program when opened: take the model in that format, or as a folder of diffusers."
        )
    try:
        with open(file, "rb", opener=plain) as opened:
            size = int.from_bytes(opened.read(8), "little")
            head = parse(opened.read(min(size, 1 << 27)))
        found = {k: tuple(v["shape"]) for k, v in head.items() if k != "__metadata__"}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelNotFoundError(f"{file} is no whole safetensors file: {error}.") from error
    if any(name.endswith(_OF_A_LORA) for name in found):
        raise ModelNotFoundError(
            f"{file} is a LoRA file, not a model: name the base model that it was trained on."
        )
    return found


def configuration(file: Path, config: str | Path | None = None) -> Path:
    """Return the folder that a file's configurations and tokenizers are in.

    Args:
        file: The checkpoint.
        config: A folder of diffusers, a packaged name, or an id of the hub; what diffusers takes
            for the file unless given.

    Raises:
        ModelNotFoundError: It is not here and not to be had.
    """
    if config is not None:
        folder = models.model_path(config)
        if folder is not None:
            return folder
    wanted = str(config) if config is not None else _usual(file)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(wanted, allow_patterns=CONFIGURATIONS))
    except Exception as error:  # the hub's client raises a different class in each version
        once = (
            "unset HF_HUB_OFFLINE once to download them, or"
            if is_offline()
            else "check the network, or"
        )
        raise ModelNotFoundError(
            f"{file} holds weights alone. Its configurations and tokenizers are those of "
            f"'{wanted}', which are not in the local cache and which the hub did not give "
            f"({type(error).__name__}): {once} name a diffusers folder of the same family as the "
            "model's configuration (--model-config; config in [model]). Of that folder no weights "
            "are needed that the file has."
        ) from error


def parts_in(file: Path, folder: Path) -> set[str]:
    """Return which parts of the pipeline in ``folder`` a file brings.

    Raises:
        ModelNotFoundError: The file is none of a model.
    """
    names = shapes(file)

    def has(starts: tuple[str, ...]) -> bool:
        return any(name.startswith(starts) for name in names)

    found = set(_DENOISERS)
    if has(_VAE):
        found.add("vae")
    for part in models.parts(folder):
        if part.startswith("text_encoder"):
            kind = models.class_of(folder, part)
            if (kind.startswith("CLIPText") and has(_CLIP)) or (kind.startswith("T5") and has(_T5)):
                found.add(part)
    return found & models.parts(folder)


def scheduler_settings(file: Path) -> dict[str, Any]:
    """Return what a file says of the noise that its model was trained with.

    SDXL models that predict the velocity have an empty tensor ``v_pred``, those whose last step has
    no signal also ``ztsnr``; that is how ComfyUI and others know them.
    """
    names = shapes(file)
    said: dict[str, Any] = {}
    if "v_pred" in names:
        said["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        said["rescale_betas_zero_snr"] = True
    return said


def load(file: Path, folder: Path, options: Mapping[str, Any]) -> Any:
    """Load the pipeline of a file.

    Args:
        file: Weights.
        folder: Configurations, tokenizers, and the weights that the file lacks.
        options: For diffusers; parts that are loaded already among them.

    Raises:
        ModelNotFoundError: Neither the file nor the folder has some part.
    """
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        with _without_empty_advice():
            return _load(file, folder, options)
    except SingleFileComponentError as error:
        said = " ".join(str(error).split("Please load")[0].split())
        raise models.unloadable(file, f"{said} {folder} has none either") from error


@contextmanager
def _without_empty_advice() -> Iterator[None]:
    """Keep off the terminal that no module ("[]") should be of another number type."""

    def says_something(record: logging.LogRecord) -> bool:
        return "should be kept in float32: []" not in record.getMessage()

    logger = logging.getLogger("diffusers.models.modeling_utils")
    logger.addFilter(says_something)
    try:
        yield
    finally:
        logger.removeFilter(says_something)


def _load(file: Path, folder: Path, options: Mapping[str, Any]) -> Any:
    import diffusers
    from diffusers import AutoPipelineForText2Image

    kind = getattr(diffusers, models.pipeline_class(folder))
    brought = parts_in(file, folder)
    options = dict(options)
    options.pop("variant", None)  # of the folder's weights
    if "vae" in brought and hasattr(kind, "from_single_file"):
        return kind.from_single_file(str(file), config=str(folder), **options)
    for part in brought - options.keys():
        # A transformer, as it is published without the autoencoder and the text encoders.
        own = getattr(diffusers, models.class_of(folder, part))
        dtype = {name: value for name, value in options.items() if name.endswith("dtype")}
        options[part] = own.from_single_file(str(file), config=str(folder), subfolder=part, **dtype)
    return AutoPipelineForText2Image.from_pretrained(folder, **options)


def _usual(file: Path) -> str:
    """Return the hub's id of the model whose configuration diffusers takes for a file.

    Raises:
        ModelNotFoundError: Its names are those of no model that diffusers knows.
    """
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    found = {name: torch.empty(shape, device="meta") for name, shape in shapes(file).items()}
    usual = str(fetch_diffusers_config(found)["pretrained_model_name_or_path"])
    # What diffusers does not know it takes for Stable Diffusion 1.
    if "stable-diffusion-v1" in usual and _FIRST_CONVOLUTION not in found:
        raise ModelNotFoundError(
            f"{file} is of no family that is known by its tensors (first: "
            f"{next(iter(found), '')}). Name a diffusers folder of its family as its "
            "configuration (--model-config; config in [model])."
        )
    return usual
