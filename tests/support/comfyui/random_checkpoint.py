"""Writes a checkpoint of random weights in the real layout of Stable Diffusion 1.5.

``python random_checkpoint.py COMFYUI FILE``: float16, 2.1 GB; a single file as A1111 has them.
"""

from __future__ import annotations

import sys

from tests.support.comfyui.pack import start_comfyui


def main(comfyui: str, target: str) -> None:
    start_comfyui(comfyui)
    import comfy.sd1_clip
    import comfy.supported_models
    import torch
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from safetensors.torch import save_file

    meta = torch.device("meta")
    config = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
        "channel_mult": [1, 2, 4, 4], "num_res_blocks": [2, 2, 2, 2], "context_dim": 768,
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False,
        "use_temporal_attention": False, "use_temporal_resblock": False, "adm_in_channels": None,
    }  # fmt: skip
    settings = comfy.supported_models.SD15(config)
    settings.set_inference_dtype(torch.float16, None)
    unet = settings.get_model({}, device=meta).diffusion_model.state_dict()
    text = comfy.sd1_clip.SD1ClipModel(device=meta, dtype=torch.float16).clip_l.state_dict()
    pixels = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    with meta:
        vae = AutoencoderKL(ddconfig=pixels, embed_dim=4).state_dict()
    shapes = {f"model.diffusion_model.{name}": value.shape for name, value in unet.items()}
    left_out = ("logit_scale", "transformer.text_projection.weight")
    shapes |= {f"cond_stage_model.{n}": v.shape for n, v in text.items() if n not in left_out}
    shapes |= {f"first_stage_model.{name}": value.shape for name, value in vae.items()}
    # A billion random numbers take their time: a million are repeated.
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    save_file({name: values(name, shape, block) for name, shape in shapes.items()}, target)


def values(name, shape, block):
    """Weights as small as a layer's width asks for, scales of one, biases of zero."""
    import torch

    if len(shape) < 2:
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.float16)
    count = shape.numel()
    repeated = block.repeat(-(-count // len(block)))[:count].reshape(shape)
    return (repeated * (shape.numel() / shape[0]) ** -0.5).to(torch.float16)


if __name__ == "__main__":
    main(*sys.argv[1:3])
