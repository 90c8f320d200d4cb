"""Write the trained parts as one folder that diffusers loads like Stable Diffusion 1.5."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .diffusion import DiffusionModel, build_model, build_scheduler

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    from .diffusion import DiffusionRecipe


def assemble(vae: AutoencoderKL, model: DiffusionModel) -> StableDiffusionPipeline:
    """Put the parts together.

    Args:
        vae: The autoencoder, its latents normalised.
        model: U-Net, text model and tokenizer.

    Returns:
        A pipeline without a safety checker: it can draw nothing but drawn portraits.
    """
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def averaged_model(
    state: Path, tokenizer_folder: Path, recipe: DiffusionRecipe | None = None
) -> DiffusionModel:
    """Take the averaged networks out of the checkpoint of a run that may still be going on.

    Args:
        state: ``diffusion-state.pt`` of the run.
        tokenizer_folder: Files of the tokenizer that it is trained with.
        recipe: Shape of the networks.

    Returns:
        The networks in evaluation mode.
    """
    model = build_model(tokenizer_folder, recipe)
    average = torch.load(state, map_location="cpu", weights_only=True)["average"]
    for name, module in (("unet", model.unet), ("text_encoder", model.text_encoder)):
        prefix = name + "."
        weights = {
            key.removeprefix(prefix): value
            for key, value in average.items()
            if key.startswith(prefix)
        }
        module.load_state_dict({**module.state_dict(), **weights})
        module.eval().requires_grad_(False)
    return model


def write_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> Path:
    """Save a pipeline in half precision; the folder is complete at every moment.

    Args:
        pipeline: Converted in place.
        folder: Replaced as a whole when the new one is written.

    Returns:
        The folder.
    """
    new = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    pipeline.to(dtype=torch.float16)
    for network in (pipeline.unet, pipeline.vae):
        network.to(memory_format=torch.contiguous_format)
    pipeline.save_pretrained(new, safe_serialization=True)
    # Loaded without a dtype, the parts of diffusers come as float32 and those of transformers as
    # their configuration says: they have to agree.
    config = new / "text_encoder" / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["dtype"] = "float32"
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    _write_vocabulary(new / "tokenizer")
    for part in ("unet", "vae"):
        _forget_origin(new / part / "config.json")
    for path in new.rglob("*.safetensors"):
        path.chmod(0o644)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _forget_origin(config: Path) -> None:
    """Drop the folder that a part was loaded from."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_vocabulary(folder: Path) -> None:
    """Put a tokenizer's ``vocab.json`` and ``merges.txt`` beside its ``tokenizer.json``.

    Newer versions of transformers write the one file, older ones and ComfyUI read the two.
    """
    single = folder / "tokenizer.json"
    if not single.exists():
        return
    model = json.loads(single.read_text(encoding="utf-8"))["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(
        json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8"
    )
    lines = "\n".join(["#version: 0.2", *merges])
    (folder / "merges.txt").write_text(lines + "\n", encoding="utf-8")
