"""LoRA files of random weights, in the layout of Stable Diffusion 1.5."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import save_file


def random_lora(server, width):
    """Write a LoRA for the first block's attention, in kohya's names; return its file's name."""
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_"
    rng = np.random.default_rng(0)
    weights = {}
    for layer in ("q", "k", "v", "out_0"):
        weights[f"{stem}{layer}.lora_down.weight"] = rng.normal(size=(4, width))
        weights[f"{stem}{layer}.lora_up.weight"] = rng.normal(size=(width, 4))
        weights[f"{stem}{layer}.alpha"] = np.array(4.0)
    path = server.base / "models" / "loras" / f"random_{width}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.astype(np.float32) for key, value in weights.items()}, path)
    return path.name
