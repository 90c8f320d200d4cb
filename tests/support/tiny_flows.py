"""Tiny diffusers pipelines with random weights: the families that are trained by flow matching.

Beside Flux.1, which is with the UNets: Stable Diffusion 3.5, Chroma, Qwen-Image, Z-Image, Flux.2 in
both its kinds. Their images are noise, their parts are real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.tiny_models import (
    clip_tokenizer,
    t5_encoder,
    t5_tokenizer,
    text_config,
    tiny_vae,
)

_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_sd3(folder: Path, seed: int = 0) -> Path:
    """Save a StableDiffusion3Pipeline in the layout of 3.5 (two CLIPs and T5) into ``folder``."""
    import torch
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizers = [clip_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")]
    t5 = t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    encoders = [CLIPTextModelWithProjection(text_config(tokenizer)) for tokenizer in tokenizers]
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0),
        vae=tiny_vae(shift=0.1),
        text_encoder=encoders[0],
        tokenizer=tokenizers[0],
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizers[1],
        text_encoder_3=t5_encoder(t5, width=64),
        tokenizer_3=t5,
    ).save_pretrained(folder)
    return folder


def save_chroma(folder: Path, seed: int = 0) -> Path:
    """Save a ChromaPipeline (T5 alone, modulation by an approximator) into ``folder``."""
    import torch
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    torch.manual_seed(seed)
    t5 = t5_tokenizer()
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    ChromaPipeline(
        scheduler=_scheduler(),
        vae=tiny_vae(shift=0.1),
        text_encoder=t5_encoder(t5),
        tokenizer=t5,
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def save_qwen_image(folder: Path, seed: int = 0) -> Path:
    """Save a QwenImagePipeline (an autoencoder of videos) into ``folder``."""
    import torch
    from diffusers import (
        AutoencoderKLQwenImage,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = _qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            **_language_model(len(tokenizer), layers=2),
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 32,
        },
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    QwenImagePipeline(
        scheduler=_scheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.5, 2.0, 1.0],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def save_z_image(folder: Path, seed: int = 0) -> Path:
    """Save a ZImagePipeline (one stream, a Qwen3 for the text) into ``folder``."""
    import torch
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(seed)
    tokenizer = _qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[4, 4, 8],
        axes_lens=[1024, 32, 32],
    )
    # What stands for padding is trained in the real model and not even drawn in a new one.
    with torch.no_grad():
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
    ZImagePipeline(
        scheduler=_scheduler(shift=3.0, use_dynamic_shifting=False),
        vae=tiny_vae(shift=0.1),
        text_encoder=Qwen3Model(Qwen3Config(**_language_model(len(tokenizer), layers=2))),
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def save_flux2(folder: Path, seed: int = 0) -> Path:
    """Save a Flux2Pipeline (dev: distilled guidance, Mistral for the text) into ``folder``."""
    import torch
    from diffusers import Flux2Pipeline
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessor,
        PixtralProcessor,
    )

    torch.manual_seed(seed)
    # It must leave room for a caption behind the system's message, which is long.
    tokenizer = _language_tokenizer([SYSTEM_MESSAGE])
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]}
    )
    config = Mistral3Config(
        text_config={
            "model_type": "mistral", **_language_model(len(tokenizer), layers=30, width=16),
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "image_size": 28,
            "patch_size": 14,
        },
    )  # fmt: skip
    Flux2Pipeline(
        scheduler=_scheduler(),
        vae=_flux2_vae(),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=PixtralProcessor(
            image_processor=PixtralImageProcessor(), tokenizer=tokenizer, chat_template=_CHAT
        ),
        transformer=_flux2_transformer(guidance_embeds=True),
    ).save_pretrained(folder)
    return folder


def save_flux2_klein(folder: Path, seed: int = 0) -> Path:
    """Save a Flux2KleinPipeline (no distilled guidance, Qwen3 for the text) into ``folder``."""
    import torch
    from diffusers import Flux2KleinPipeline
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    tokenizer = _qwen_tokenizer()
    config = Qwen3Config(**_language_model(len(tokenizer), layers=27, width=16))
    Flux2KleinPipeline(
        scheduler=_scheduler(),
        vae=_flux2_vae(),
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=tokenizer,
        transformer=_flux2_transformer(guidance_embeds=False),
    ).save_pretrained(folder)
    return folder


FLOWS: Mapping[str, Callable[[Path], Path]] = {
    "tiny_sd3": save_sd3,
    "tiny_chroma": save_chroma,
    "tiny_qwen_image": save_qwen_image,
    "tiny_z_image": save_z_image,
    "tiny_flux2": save_flux2,
    "tiny_flux2_klein": save_flux2_klein,
}
"""What saves each family, by the name of its fixture."""


def _scheduler(**settings):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**{"use_dynamic_shifting": True, **settings})


def _language_model(vocabulary: int, layers: int, width: int = 32) -> dict:
    return {
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 2 * width,
        "num_hidden_layers": layers, "num_attention_heads": width // 8,
        "num_key_value_heads": width // 8, "head_dim": 8, "max_position_embeddings": 2048,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


def _language_tokenizer(texts: list[str]):
    """Return a byte-level tokenizer that knows the words of some texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<|im_end|>", chat_template=_CHAT
    )


def _qwen_tokenizer():
    """Return a tokenizer of Qwen's kind that spells every word out, byte by byte."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(alphabet)},
        merges=[],
        unk_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = _CHAT
    return tokenizer


def _flux2_vae():
    import torch
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # as of a batch norm that has seen latents
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _flux2_transformer(guidance_embeds: bool):
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
