"""Checkpoints in one file, in the original names of Stable Diffusion 1 and SDXL.

The names are those of diffusers' scripts ``convert_diffusers_to_original_stable_diffusion.py`` and
``convert_diffusers_to_original_sdxl.py``, for UNets of any depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
_Z_IMAGE = (
    ("all_final_layer.2-1.", "final_layer."), ("all_x_embedder.2-1.", "x_embedder."),
    (".attention.to_out.0.", ".attention.out."), (".attention.norm_k.", ".attention.k_norm."),
    (".attention.norm_q.", ".attention.q_norm."),
)  # fmt: skip
_OPEN_CLIP = (
    ("text_model.", ""), ("encoder.layers.", "transformer.resblocks."),
    ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), (".fc1.", ".c_fc."), (".fc2.", ".c_proj."),
    ("self_attn.out_proj", "attn.out_proj"), ("final_layer_norm.", "ln_final."),
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
)  # fmt: skip


def save_single_file(folder: Path, file: Path, extra: Iterable[str] = ()) -> Path:
    """Write the pipeline in a folder, of SD 1 or SDXL, as one file in the original names.

    Args:
        folder: Of the pipeline.
        file: Where to.
        extra: Names of empty tensors to add, which say something of the model.
    """
    import torch
    from diffusers import AutoPipelineForText2Image
    from safetensors.torch import save_file

    pipeline = AutoPipelineForText2Image.from_pretrained(folder)
    unet = pipeline.unet
    names = _unet_names(unet.state_dict(), unet.config.layers_per_block)
    tensors = {f"model.diffusion_model.{names[k]}": v for k, v in unet.state_dict().items()}
    for key, value in pipeline.vae.state_dict().items():
        name = _vae_name(key)
        if ".attn_1." in name and value.dim() == 2:
            value = value[:, :, None, None]  # there attention is made of convolutions
        tensors[f"first_stage_model.{name}"] = value
    clip = {_in_text_model(k): v for k, v in pipeline.text_encoder.state_dict().items()}
    if getattr(pipeline, "text_encoder_2", None) is None:
        start = "cond_stage_model.transformer."
    else:
        start = "conditioner.embedders.0.transformer."
        second = pipeline.text_encoder_2.state_dict()
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(second).items()}
    tensors |= {f"{start}{k}": v for k, v in clip.items()}
    tensors |= {name: torch.zeros(1) for name in extra}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, file)
    return file


def _in_text_model(key: str) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _unet_names(keys: Iterable[str], layers: int) -> dict[str, str]:
    names = {key: _unet_name(key, layers) for key in keys}
    # What enlarges stands behind the block's attention, where there is one.
    with_attention = {name.partition(".1.")[0] for name in names.values() if ".1.norm." in name}
    return {
        key: name.replace("UP", "2" if name.partition(".UP.")[0] in with_attention else "1")
        for key, name in names.items()
    }


def _unet_name(key: str, layers: int) -> str:
    for own, original in _OUTSIDE.items():
        if key.startswith(f"{own}."):
            return original + key.removeprefix(own)
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key)
    if found:
        side, level, kind, number, rest = found.groups()
        if side == "down":
            place = f"input_blocks.{(layers + 1) * int(level) + int(number) + 1}"
        else:
            place = f"output_blocks.{(layers + 1) * int(level) + int(number)}"
        if kind == "attentions":
            return f"{place}.1.{rest}"
        return f"{place}.0.{_resnet(rest)}"
    found = re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", key)
    if found:
        return f"input_blocks.{(layers + 1) * (int(found[1]) + 1)}.0.op.{found[2]}"
    found = re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.(.*)", key)
    if found:
        return f"output_blocks.{(layers + 1) * int(found[1]) + layers}.UP.{found[2]}"
    found = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key)
    assert found, key
    if found[1] == "attentions":
        return f"middle_block.1.{found[3]}"
    return f"middle_block.{2 * int(found[2])}.{_resnet(found[3])}"


def _resnet(rest: str) -> str:
    part, dot, end = rest.partition(".")
    return _RESNET[part] + dot + end


def _vae_name(key: str) -> str:
    key = re.sub(r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample.", key)
    key = re.sub(r"\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r".down.\1.block.\2.", key)
    key = re.sub(
        r"\.up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f".up.{3 - int(m[1])}.upsample.", key
    )
    key = re.sub(
        r"\.up_blocks\.(\d+)\.resnets\.(\d+)\.",
        lambda m: f".up.{3 - int(m[1])}.block.{m[2]}.",
        key,
    )
    key = re.sub(r"\.mid_block\.resnets\.(\d+)\.", lambda m: f".mid.block_{int(m[1]) + 1}.", key)
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    start, attention, rest = key.partition(".mid_block.attentions.0.")
    if not attention:
        return key
    for own, original in _VAE_ATTENTION.items():
        rest = rest.replace(own, original)
    return f"{start}.mid.attn_1.{rest}"


def _open_clip(state: Mapping) -> dict:
    """Return CLIP's weights as open_clip has them: q, k and v in one."""
    import torch

    found = {}
    for key, value in state.items():
        name = key
        for own, original in _OPEN_CLIP:
            name = name.replace(own, original)
        if "self_attn" in name:
            continue
        if name == "text_projection.weight":
            name, value = "text_projection", value.T
        found[name] = value
    for key in [key for key in state if ".self_attn.q_proj." in key]:
        layer, kind = key.split(".self_attn.q_proj.")
        joined = torch.cat([state[f"{layer}.self_attn.{n}_proj.{kind}"] for n in "qkv"])
        for own, original in _OPEN_CLIP:
            layer = layer.replace(own, original)
        found[f"{layer}.attn.in_proj_{kind}"] = joined
    return found


def z_image_names(state: Mapping) -> dict:
    """Return the weights of Z-Image's transformer in the names that it is passed on with."""
    import torch

    found = {}
    for key, value in state.items():
        if ".attention.to_k." in key or ".attention.to_v." in key:
            continue
        name = key
        if ".attention.to_q." in key:
            value = torch.cat([state[key.replace("to_q", f"to_{n}")] for n in "qkv"])
            name = key.replace("to_q", "qkv")
        for own, original in _Z_IMAGE:
            name = name.replace(own, original)
        found[f"model.diffusion_model.{name}"] = value
    return found
