"""MODEL, CLIP and VAE of random weights in the layouts of SD 1.5, SDXL and Flux, scaled down.

ComfyUI's own classes, with fewer and narrower layers. Its modules must be importable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3,
    "projection_dim": 32,
}  # fmt: skip
_T5 = {"d_ff": 64, "d_kv": 8, "d_model": 32, "num_heads": 4, "num_layers": 2}
_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True,
    "legacy": False, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
    "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip


@dataclass(frozen=True)
class Wires:
    """What a loader gives."""

    model: Any
    clip: Any
    vae: Any


def sd15(prediction: str = "epsilon", dtype: Any = None) -> Wires:
    """Stable Diffusion 1.5; ``prediction`` may be ``v_prediction``."""
    import comfy.sd1_clip
    import comfy.supported_models

    extra = {
        "unet_extra_config": {"num_heads": 4, "num_head_channels": -1},
        "model_type": lambda *_, **__: _kinds()[prediction],
    }
    config = _UNET | {
        "adm_in_channels": None, "transformer_depth": [1, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 0, 0], "use_linear_in_transformer": False,
        "context_dim": 32,
    }  # fmt: skip
    model = _model(type("Tiny", (comfy.supported_models.SD15,), extra), config, dtype)
    clip = _clip(comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer)
    return Wires(model, clip, autoencoder(4))


def sdxl(prediction: str = "epsilon") -> Wires:
    """SDXL: two text encoders, and a model that is told the image's size."""
    import comfy.sdxl_clip
    import comfy.supported_models

    extra = {
        "unet_extra_config": {"num_heads": -1, "num_head_channels": 16},
        "model_type": lambda *_, **__: _kinds()[prediction],
    }
    config = _UNET | {
        "num_classes": "sequential", "adm_in_channels": 32 + 6 * 256, "transformer_depth": [0, 1],
        "transformer_depth_middle": 1, "transformer_depth_output": [0, 0, 1, 1],
        "use_linear_in_transformer": True, "context_dim": 64,
    }  # fmt: skip
    model = _model(type("Tiny", (comfy.supported_models.SDXL,), extra), config)
    clip = _clip(comfy.sdxl_clip.SDXLClipModel, comfy.sdxl_clip.SDXLTokenizer)
    return Wires(model, clip, autoencoder(4))


def flux() -> Wires:
    """Flux: a transformer that predicts a flow, told CLIP's pooled output and T5's tokens."""
    import comfy.ldm.flux.model
    import comfy.supported_models
    import comfy.text_encoders.flux
    import torch

    config = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
        "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 4.0,
        "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8],
        "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    }  # fmt: skip
    if "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__annotations__:
        config["txt_ids_dims"] = []
    kind = comfy.text_encoders.flux.flux_clip(dtype_t5=torch.float32)
    clip = _clip(kind, comfy.text_encoders.flux.FluxTokenizer)
    return Wires(_model(comfy.supported_models.Flux, config), clip, autoencoder(16))


LAYOUTS = {
    "sd15": sd15,
    "v_prediction": lambda: sd15("v_prediction"),
    "sdxl": sdxl,
    "flux": flux,
}


def fill(module: Any, seed: int = 0) -> Any:
    """Give a module random weights: ComfyUI leaves them as the memory was."""
    import torch

    source = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if value.dim() < 2:
            value.data.fill_(float(name.endswith("weight")))
        else:
            scale = math.sqrt(value.shape[0] / value.numel())
            value.data.copy_(torch.randn(value.shape, generator=source) * scale)
    return module.eval()


def _kinds() -> dict[str, Any]:
    from comfy.model_base import ModelType

    return {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}


def _model(kind: Any, config: dict[str, Any], dtype: Any = None) -> Any:
    import comfy.model_patcher
    import torch

    cpu = torch.device("cpu")
    settings = kind(config)
    settings.set_inference_dtype(dtype or torch.float32, None)
    model = fill(settings.get_model({}, device=cpu))
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _clip(model: Any, tokenizer: Any) -> Any:
    import comfy.sd
    import torch

    class Target:
        params: dict[str, Any] = {}  # noqa: RUF012 (the shape that comfy.sd.CLIP reads)

    Target.clip, Target.tokenizer = model, tokenizer
    options = {
        "dtype": torch.float32, "clip_l_model_config": _TEXT, "clip_g_model_config": _TEXT,
        "t5xxl_model_config": _T5,
    }  # fmt: skip
    clip = comfy.sd.CLIP(Target, model_options=options)
    fill(clip.cond_stage_model, 1)
    return clip


def autoencoder(channels: int) -> Any:
    """Return a small autoencoder with latents of so many channels."""
    import comfy.sd
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL

    shape = {
        "double_z": True, "z_channels": channels, "resolution": 32, "in_channels": 3, "out_ch": 3,
        "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    parameters = {"ddconfig": shape, "embed_dim": channels}
    weights = fill(AutoencoderKL(**parameters), 2).state_dict()
    return comfy.sd.VAE(sd=weights, config={"params": parameters}, dtype=torch.float32)
