"""LoRA files of random weights, in the layout of Stable Diffusion 1.5."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save_file


def random_lora(server, width, scale=1.0):
    """Write a LoRA for the first block's attention, in kohya's names; return its file's name.

    Args:
        server: In whose folder of models it lies.
        width: Of the block's layers.
        scale: Of its weights; with 1e30 nothing that a model computes is a number any more.
    """
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_"
    rng = np.random.default_rng(0)
    weights = {}
    for layer in ("q", "k", "v", "out_0"):
        weights[f"{stem}{layer}.lora_down.weight"] = scale * rng.normal(size=(4, width))
        weights[f"{stem}{layer}.lora_up.weight"] = scale * rng.normal(size=(width, 4))
        weights[f"{stem}{layer}.alpha"] = np.array(4.0)
    path = server.base / "models" / "loras" / f"random_{width}_{scale:g}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.astype(np.float32) for key, value in weights.items()}, path)
    return path.name
