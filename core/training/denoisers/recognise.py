"""Which family a model for training is of, by its folder's configuration, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...generation import model_files, models
from ...json_text import parse
from ...lora.families import Guess, recognised
from ...lora.header import names_in_file
from ...plain_files import plain_text

_TEXT_WIDTHS = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2"}
"""Width of the text that a UNet takes: CLIP's ViT-L, and OpenCLIP's ViT-H."""

_PLAIN: Mapping[str, str] = {
    "StableDiffusionXL": "stable-diffusion-xl-v1-base",
    "Chroma": "chroma",
    "QwenImageEdit": "qwen-image-edit",
    "QwenImage": "qwen-image",
    "ZImage": "z-image",
    "FluxKontext": "flux-1-kontext-dev",
}
"""Architectures by how the name of the pipeline's class begins, the first that fits."""


def recognise(
    base: str | Path, config: str | Path | None = None, variant: str | None = None
) -> Guess:
    """Tell the family of a model.

    Args:
        base: As :attr:`.LoraJob.base`.
        config: As :attr:`.LoraJob.base_config`.
        variant: As :attr:`.LoraJob.variant`.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    options: dict[str, Any] = {} if variant is None else {"variant": variant}
    files = model_files.located(base, config, **options)
    folder = files.folder
    name = models.reference(base)
    name = Path(name).name if Path(name).expanduser().exists() else name
    kind = str(_json(folder / "model_index.json").get("_class_name", ""))
    found = _architecture(kind, folder)
    if not found:
        return Guess(None, f"{name} is of no family with a preset")
    return recognised(found, {"the base model's name": name, **said_by(base)})


def said_by(base: str | Path) -> dict[str, str]:
    """Return what a single file says that it is called, by the key; nothing of other models."""
    path = Path(base).expanduser()
    return names_in_file(path) if path.is_file() else {}


def _architecture(kind: str, folder: Path) -> str:
    for start, architecture in _PLAIN.items():
        if kind.startswith(start):
            return architecture
    transformer = _json(folder / "transformer" / "config.json")
    if kind.startswith("StableDiffusion3"):
        if not transformer.get("qk_norm"):
            return "stable-diffusion-3-medium"
        # 3.5 Medium alone has blocks that attend to the image twice.
        size = "medium" if transformer.get("dual_attention_layers") else "large"
        return f"stable-diffusion-3-5-{size}"
    if kind.startswith("StableDiffusion"):
        return _of_unet(folder)
    if kind.startswith("Flux2"):
        if transformer.get("guidance_embeds", True):
            return "flux-2-dev"
        wide = transformer.get("joint_attention_dim", 0) > 3 * 2560  # three layers of Qwen3 4B
        return f"flux-2-klein-{'9b' if wide else '4b'}"
    if kind.startswith("Flux"):
        return "flux-1-dev" if transformer.get("guidance_embeds") else "flux-1-schnell"
    return ""


def _of_unet(folder: Path) -> str:
    width = _json(folder / "unet" / "config.json").get("cross_attention_dim")
    found = _TEXT_WIDTHS.get(width, "") if isinstance(width, int) else ""
    if not found.endswith("v2"):
        return found
    predicts = _json(folder / "scheduler" / "scheduler_config.json").get("prediction_type")
    return f"{found}-{'768-v' if predicts == 'v_prediction' else '512'}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse(plain_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
