"""Tiny diffusers pipelines with random weights, saved in the layouts of SD 1.5, SDXL and Flux.

Their images are noise, their parts are real: what loads and runs these folders loads and runs
the large models of the same layout.
"""

from __future__ import annotations

import json
from pathlib import Path

TOKENS = 77


def tokenizer_folder(folder: Path) -> Path:
    """Write the files of a CLIP tokenizer that spells every word out, byte by byte."""
    folder.mkdir(parents=True, exist_ok=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(code) for code in printable]
    alphabet += [chr(256 + n) for n in range(256 - len(printable))]
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS})
    )
    return folder


def clip_tokenizer(folder: Path):
    """Return a CLIP tokenizer that spells every word out, its files in ``folder``."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(tokenizer_folder(folder))


def text_config(tokenizer, width: int = 32):
    """Return the configuration of a CLIP text model of two layers."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_vae(latent_channels: int = 4, shift: float | None = None, attention: bool = False):
    """Return an autoencoder of factor 8; those of flow models have a ``shift``."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        mid_block_add_attention=attention,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def _scheduler():
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def sd15_unet(channels: tuple[int, ...] = (16, 32), groups: int = 8):
    """Return SD 1.5's UNet with weights drawn from torch's generator; ``groups`` of its norms."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * (len(channels) - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(channels) - 1),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=groups,
    )


def sdxl_unet(channels: tuple[int, int] = (16, 32), groups: int = 8, pooled: int = 32):
    """Return SDXL's UNet with weights drawn from torch's generator; ``groups`` of its norms."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        norm_num_groups=groups,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=pooled + 6 * 8,
    )


def save_sd15(folder: Path, seed: int = 0, channels: tuple[int, ...] = (16, 32)) -> Path:
    """Save a StableDiffusionPipeline (UNet, CLIP text model, VAE of factor 8) into ``folder``."""
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(folder / "tokenizer")
    unet = sd15_unet(channels)
    StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, seed: int = 0, widths: tuple[int, int] = (32, 32)) -> Path:
    """Save a StableDiffusionXLPipeline (two text encoders, size conditioning) into ``folder``.

    The encoders' ``widths`` sum to 64. In one file the second is told from the first by its width;
    where they differ, the autoencoder has attention, as the real one has.
    """
    import torch
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(folder / "tokenizer")
    unet = sdxl_unet(pooled=widths[1])
    StableDiffusionXLPipeline(
        vae=tiny_vae(attention=widths[0] != widths[1]),
        text_encoder=CLIPTextModel(text_config(tokenizer, widths[0])),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, widths[1])),
        tokenizer=tokenizer,
        tokenizer_2=clip_tokenizer(folder / "tokenizer_2"),
        unet=unet,
        scheduler=_scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def t5_tokenizer():
    """Return a tokenizer of T5's kind that spells every word out, byte by byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "</s>", "<unk>", *alphabet])}
    words = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def t5_encoder(tokenizer, width: int = 32):
    """Return a T5 encoder of one layer for a tokenizer."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=4
        )
    )


def save_flux(folder: Path, seed: int = 0) -> Path:
    """Save a FluxPipeline (transformer, CLIP and T5 encoders, flow matching) into ``folder``."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    clip = clip_tokenizer(folder / "tokenizer")
    t5 = t5_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=tiny_vae(latent_channels=4, shift=0.1),
        text_encoder=CLIPTextModel(text_config(clip)),
        tokenizer=clip,
        text_encoder_2=t5_encoder(t5),
        tokenizer_2=t5,
        transformer=transformer,
    ).save_pretrained(folder)
    return folder
