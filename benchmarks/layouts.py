"""Pipelines whose step is timed: Stable Diffusion 1.5's layout at full size, and the miniature.

What a step costs depends on shapes alone, so that random weights will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def sd15() -> Any:
    """Build Stable Diffusion 1.5 with random weights.

    860 million are the U-Net's, 84 million the autoencoder's, 123 million the text encoder's. The
    tokenizer is the miniature's, which is of CLIP's kind.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from character_curator import miniature

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(miniature.DIFFUSION_PATH / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, projection_dim=768,
        num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
        hidden_act="quick_gelu", bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def folder_of(layout: str, root: Path) -> Path:
    """Return the folder of a model: ``sd15``, which is written below ``root``; ``miniature``."""
    from character_curator import miniature

    if layout == "miniature":
        return Path(miniature.DIFFUSION_PATH)
    sd15().save_pretrained(root / "sd15")
    return root / "sd15"
