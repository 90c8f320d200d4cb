"""What a MODEL is: what it predicts, what it is called, and how a LoRA file names its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.model_base
import comfy.model_sampling
import comfy.utils

if TYPE_CHECKING:
    from ...core.lora.families import Guess
    from ...core.training.denoisers.protocol import Prediction

_PREDICTIONS: tuple[tuple[type, type, Prediction], ...] = (
    (comfy.model_sampling.EPS, comfy.model_sampling.ModelSamplingDiscrete, "epsilon"),
    (comfy.model_sampling.V_PREDICTION, comfy.model_sampling.ModelSamplingDiscrete, "v_prediction"),
)


def prediction_of(sampling: Any) -> Prediction | None:
    """Return what a ``model_sampling`` says that the model predicts; None if it is anything else.

    Kinds are told by the methods that decide, for patches put other classes around them.
    """
    kind = type(sampling)
    if kind.calculate_denoised is comfy.model_sampling.CONST.calculate_denoised:
        return "flow"
    if has_signal_scale(sampling):
        return "flow"
    for parametrisation, schedule, name in _PREDICTIONS:
        if (
            kind.calculate_denoised is parametrisation.calculate_denoised  # type: ignore[attr-defined]
            and getattr(kind, "sigma", None) is schedule.sigma  # type: ignore[attr-defined]
        ):
            return name
    return None


def has_signal_scale(sampling: Any) -> bool:
    """Whether a flow's sigma is noise by signal, as Cosmos-Predict2 has it, not noise by whole."""
    cosmos = getattr(comfy.model_sampling, "COSMOS_RFLOW", None)
    return cosmos is not None and type(sampling).calculate_denoised is cosmos.calculate_denoised


def is_unet(model: Any) -> bool:
    """Whether a ``BaseModel`` holds a UNet of Stable Diffusion's family."""
    return "channel_mult" in model.model_config.unet_config


_ARCHITECTURES: Mapping[str, str] = {
    "SD3": "stable-diffusion-3-medium", "Flux": "flux-1-dev", "FluxSchnell": "flux-1-schnell",
    "Flux2": "flux-2-dev", "Chroma": "chroma", "ChromaRadiance": "chroma-radiance",
    "QwenImage": "qwen-image", "ZImage": "z-image", "Lumina2": "lumina-2", "HiDream": "hidream-i1",
    "HunyuanImage21": "hunyuan-image-2.1", "WAN21_T2V": "wan2.1", "WAN22_T2V": "wan2.2-5b",
    "Krea2": "krea-2", "Anima": "anima", "CosmosT2IPredict2": "cosmos-predict2",
    "Ideogram4": "ideogram-4", "ErnieImage": "ernie-image", "AuraFlow": "auraflow",
    "PixArtAlpha": "pixart-alpha", "PixArtSigma": "pixart-sigma", "Kandinsky5": "kandinsky-5",
    "Kandinsky5Image": "kandinsky-5", "Omnigen2": "omnigen2", "LongCatImage": "longcat-image",
    "JoyImage": "joyimage", "MageFlow": "mage-flow", "Lens": "lens", "Boogu": "boogu-image",
}  # fmt: skip
"""What files call ComfyUI's classes of models; some hold several, which their sizes tell apart."""
_SD1_TEXT = 768
"""Width of the text that Stable Diffusion 1 takes: small models of its layout take another."""
_KLEIN_4B = 3072
"""Width of the layers of the smaller Flux.2 Klein; the larger one has 4096."""


def architecture_of(model: Any, prediction: Prediction) -> str:
    """Return a model's kind in the words of ModelSpec; of others, ComfyUI's name in lower case."""
    config = model.model_config.unet_config
    if isinstance(model, comfy.model_base.SDXL):
        return "stable-diffusion-xl-v1-base"
    if is_unet(model) and type(model) is comfy.model_base.BaseModel:
        if config.get("context_dim") != 1024:  # the width of OpenCLIP's ViT-H
            return "stable-diffusion-v1"
        return f"stable-diffusion-v2-{'512' if prediction == 'epsilon' else '768-v'}"
    kind = type(model.model_config).__name__
    if kind == "SD3" and config.get("x_block_self_attn_layers"):
        return "stable-diffusion-3-5-medium"
    if kind == "SD3" and config.get("qk_norm"):
        return "stable-diffusion-3-5-large"
    if kind in ("Flux", "FluxSchnell") and config.get("yak_mlp"):
        return "ovis-image"
    if kind == "Flux2" and not config.get("guidance_embed"):
        return f"flux-2-klein-{'4b' if config['hidden_size'] <= _KLEIN_4B else '9b'}"
    return _ARCHITECTURES.get(kind, kind.lower())


def family_of(model: Any, says: Mapping[str, str]) -> Guess:
    """Tell the family of a MODEL.

    Args:
        model: A MODEL.
        says: What it is called, by where.
    """
    from ...core.lora.families import Guess, recognised

    held = model.model
    found = prediction_of(model.get_model_object("model_sampling"))
    architecture = architecture_of(held, found or "epsilon")
    if architecture == "stable-diffusion-v1":
        width = held.model_config.unet_config.get("context_dim")
        if width != _SD1_TEXT:
            return Guess(None, f"it takes text of width {width}, Stable Diffusion 1 {_SD1_TEXT}")
    return recognised(architecture, says)


def size_step(model: Any, vae: Any) -> int:
    """Return what widths and heights of images must be multiples of, in pixels."""
    config = model.model_config.unet_config
    scale = int(vae.spacial_compression_encode())
    if is_unet(model):
        return scale * int(2 ** (len(config["channel_mult"]) - 1))
    patch = config.get("patch_size", getattr(model.diffusion_model, "patch_size", 2))
    return scale * int(patch if isinstance(patch, int) else max(patch))


def layer_names(model: Any) -> dict[str, str]:
    """Return diffusers' names of a UNet's layers by ComfyUI's; empty for other models.

    Other readers of LoRA files know a UNet by diffusers' names alone.
    """
    if not is_unet(model):
        return {}
    names = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
    end = ".weight"
    return {
        own.removesuffix(end): name.removesuffix(end)
        for name, own in names.items()
        if own.endswith(end)
    }
