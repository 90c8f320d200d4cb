"""Every family that ComfyUI can sample images with, as a tiny model is made of it.

Each is one of ComfyUI's own model classes with few and narrow layers; :mod:`.family_models` makes
it. ComfyUI's modules need not be importable to read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.wires.wire_models import LAYOUTS, Wires, sdxl

HIDDEN = 32
TEXT = 32
"""Width of the layers, and of the text's tokens."""


@dataclass(frozen=True)
class Family:
    """How a family's tiny model is made.

    Attributes:
        kind: Its class in ``comfy.supported_models``.
        config: Of the model, as ``comfy.model_detection`` reads it from a file.
        text: Width of the text's tokens.
        pooled: Width of the pooled text, if there is one.
        extras: Makes what else the text encoder says of so many tokens.
        note: What a reader of a table should know.
        adjust: Sets what no setting does: the size of a part, a table that comes with the file.
        side: Of the smallest square image that it can take, in pixels.
        quantised: ComfyUI's name of the format of the blocks' weights, if not floats.
        edits: The stock node that people tell it of reference images with, if it takes some.
    """

    kind: str
    config: Mapping[str, Any]
    text: int = TEXT
    pooled: int | None = None
    extras: Callable[[int], dict[str, Any]] = lambda _: {}
    note: str = ""
    adjust: Callable[[Any], None] = lambda _: None
    side: int = 64
    quantised: str = ""
    edits: str = ""


def _flux(**changes: Any) -> dict[str, Any]:
    config = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
        "vec_in_dim": 32, "context_in_dim": TEXT, "hidden_size": HIDDEN, "mlp_ratio": 4.0,
        "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8],
        "theta": 10000, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
    }  # fmt: skip
    return config | changes


def _mask(tokens: int) -> dict[str, Any]:
    import torch

    return {"attention_mask": torch.ones(1, tokens, dtype=torch.long)}


def _half_mask(tokens: int) -> dict[str, Any]:
    mask = _mask(tokens)
    mask["attention_mask"][:, -2:] = 0
    return mask


def _t5_words(tokens: int) -> dict[str, Any]:
    import torch

    ids = torch.arange(tokens - 1, dtype=torch.int) * 7 % 97 + 1
    return {"t5xxl_ids": ids, "t5xxl_weights": torch.ones(tokens - 1)}


def _llama(tokens: int) -> dict[str, Any]:
    import torch

    source = torch.Generator().manual_seed(tokens)
    return {"conditioning_llama3": torch.randn(1, 3, tokens, TEXT, generator=source)}


def _small_adapter(model: Any) -> None:
    from comfy.ldm.anima.model import LLMAdapter
    from comfy.ops import manual_cast

    model.llm_adapter = LLMAdapter(
        TEXT, TEXT, TEXT, 1, 2, device="cpu", dtype=model.dtype, operations=manual_cast
    )


def _known_positions(model: Any) -> None:
    model.pos_embed.copy_(model.pos_embed.new_ones(()).expand_as(model.pos_embed).cumsum(-1).sin())


_FLUX2 = _flux(
    image_model="flux2", in_channels=128, out_channels=128, patch_size=1, vec_in_dim=None,
    axes_dim=[4, 4, 4, 4], theta=2000, mlp_ratio=3.0, global_modulation=True, mlp_silu_act=True,
    qkv_bias=False, ops_bias=False, default_ref_method="index", ref_index_scale=10.0,
    txt_ids_dims=[3],
)  # fmt: skip
_CHROMA = {
    name: value
    for name, value in _flux(
        image_model="chroma", in_channels=64, out_channels=64, in_dim=64, out_dim=HIDDEN,
        hidden_dim=HIDDEN, n_layers=2,
    ).items()
    if name != "guidance_embed"
}  # fmt: skip
_NERF = {
    "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 16,
    "nerf_hidden_size": 16, "nerf_mlp_ratio": 4, "nerf_depth": 1, "nerf_max_freqs": 4,
    "nerf_tile_size": 512, "nerf_final_head_type": "conv", "use_x0": False,
    "use_sequential_txt_ids": False,
}  # fmt: skip
_COSMOS = {
    "image_model": "cosmos_predict2", "max_img_h": 240, "max_img_w": 240, "max_frames": 128,
    "in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1,
    "model_channels": HIDDEN, "concat_padding_mask": True, "crossattn_emb_channels": TEXT,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop",
    "min_fps": 1, "max_fps": 30, "use_adaln_lora": True, "adaln_lora_dim": 8, "num_blocks": 2,
    "num_heads": 2, "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0, "extra_w_extrapolation_ratio": 1.0,
    "extra_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False,
}  # fmt: skip
_LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 48, "cap_feat_dim": TEXT,
    "n_layers": 2, "n_refiner_layers": 1, "qk_norm": True, "n_heads": 2, "n_kv_heads": 1,
    "axes_dims": [8, 8, 8], "axes_lens": [300, 512, 512], "rope_theta": 10000.0,
    "ffn_dim_multiplier": 1.0, "multiple_of": 16,
}  # fmt: skip
_WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": HIDDEN, "out_dim": 16, "in_dim": 16,
    "num_heads": 2, "ffn_dim": 64, "num_layers": 2, "patch_size": (1, 2, 2), "freq_dim": 32,
    "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
    "text_dim": TEXT,
}  # fmt: skip
_OMNIGEN = {
    "image_model": "omnigen2", "axes_dim_rope": [8, 8, 8], "axes_lens": [1024, 1664, 1664],
    "hidden_size": 48, "in_channels": 16, "multiple_of": 16, "norm_eps": 1e-5,
    "num_attention_heads": 2, "num_kv_heads": 1, "num_layers": 2, "num_refiner_layers": 1,
    "patch_size": 2, "text_feat_dim": TEXT, "timestep_scale": 1000.0,
}  # fmt: skip
_BOOGU = {
    **{name: value for name, value in _OMNIGEN.items() if name != "text_feat_dim"},
    "image_model": "boogu", "num_double_stream_layers": 1, "instruction_feat_dim": TEXT,
}  # fmt: skip
_QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "num_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": TEXT, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
_KANDINSKY = {
    "image_model": "kandinsky5", "model_dim": 48, "axes_dims": (8, 8, 8), "time_dim": 32,
    "rope_scale_factor": (1.0, 1.0, 1.0), "ff_dim": 64, "visual_embed_dim": 64,
    "in_text_dim": TEXT, "in_text_dim2": 24, "num_text_blocks": 1, "num_visual_blocks": 2,
    "out_visual_dim": 16, "in_visual_dim": 16,
}  # fmt: skip

_ROUNDED = "the stock loader rounds weights with a LoRA to the format again"
_REFERENCE = "ReferenceLatent"
_QWEN_EDIT = "TextEncodeQwenImageEdit"

FAMILIES: Mapping[str, Family | Callable[[], Wires]] = {
    "SD 1.5": LAYOUTS["sd15"],
    "SD 1.5, v": LAYOUTS["v_prediction"],
    "SDXL": LAYOUTS["sdxl"],
    "SDXL, v": lambda: sdxl("v_prediction"),
    "SD3": Family(
        "SD3",
        {
            "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "input_size": None,
            "adm_in_channels": 24, "num_patches": 64, "pos_embed_max_size": 8,
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 128},
            },
            "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [],
        },
        pooled=24,
        adjust=_known_positions,
    ),
    "SD3.5": Family(
        "SD3",
        {
            "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "input_size": None,
            "adm_in_channels": 24, "num_patches": 64, "pos_embed_max_size": 8, "qk_norm": "rms",
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 128},
            },
            "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
        },
        pooled=24,
        adjust=_known_positions,
    ),
    "Flux.1": LAYOUTS["flux"],
    "Flux.1 Schnell": Family("FluxSchnell", _flux(guidance_embed=False), pooled=32),
    "Flux.1 Kontext": Family("Flux", _flux(), pooled=32, edits=_REFERENCE),
    "Flux.2": Family("Flux2", _FLUX2, edits=_REFERENCE),
    "Flux.2 Klein": Family(
        "Flux2", _FLUX2 | {"guidance_embed": False}, edits=_REFERENCE,
    ),
    "Chroma": Family("Chroma", _CHROMA),
    "Chroma Radiance": Family("ChromaRadiance", _CHROMA | _NERF),
    "Qwen-Image": Family("QwenImage", _QWEN),
    "Qwen-Image, fp8_scaled": Family(
        "QwenImage", _QWEN, quantised="float8_e4m3fn", note=_ROUNDED,
    ),
    "Qwen-Image, int8": Family("QwenImage", _QWEN, quantised="int8_tensorwise", note=_ROUNDED),
    "Qwen-Image-Edit": Family("QwenImage", _QWEN, edits=_QWEN_EDIT),
    "Z-Image": Family(
        "ZImage",
        _LUMINA | {
            "dim": 256, "n_heads": 8, "n_kv_heads": 8, "axes_dims": [8, 12, 12],
            "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
            "rope_theta": 256.0,
        },
        extras=_mask,
    ),
    "Lumina 2": Family("Lumina2", _LUMINA, extras=_half_mask),
    "HiDream": Family(
        "HiDream",
        {
            "image_model": "hidream", "attention_head_dim": 16, "axes_dims_rope": [8, 4, 4],
            "caption_channels": [TEXT, TEXT], "max_resolution": [128, 128], "in_channels": 16,
            "llama_layers": [0, 1, 2, 2], "num_attention_heads": 2, "num_routed_experts": 4,
            "num_activated_experts": 2, "num_layers": 1, "num_single_layers": 2,
            "out_channels": 16, "patch_size": 2, "text_emb_dim": 24,
        },
        pooled=24,
        extras=_llama,
    ),
    "HunyuanImage 2.1": Family(
        "HunyuanImage21",
        {
            "image_model": "hunyuan_video", "in_channels": 64, "patch_size": [1, 1],
            "out_channels": 64, "vec_in_dim": None, "axes_dim": [8, 8], "meanflow": False,
            "context_in_dim": TEXT, "hidden_size": HIDDEN, "mlp_ratio": 4.0, "num_heads": 2,
            "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True, "byt5": False,
            "guidance_embed": False, "use_cond_type_embedding": False, "vision_in_dim": None,
            "meanflow_sum": False,
        },
        extras=_mask,
    ),
    "Wan 2.1": Family("WAN21_T2V", _WAN),
    "Wan 2.2 5B": Family("WAN22_T2V", _WAN | {"in_dim": 48, "out_dim": 48}),
    "Krea 2": Family(
        "Krea2",
        {
            "image_model": "krea2", "features": HIDDEN, "channels": 16, "patch": 2, "layers": 2,
            "heads": 2, "kvheads": 1, "txtlayers": 3, "txtdim": 32, "txtheads": 2,
            "txtkvheads": 2, "tdim": 32,
        },
        text=96,
    ),
    "Anima": Family("Anima", _COSMOS | {"image_model": "anima"}, extras=_t5_words,
                    adjust=_small_adapter),
    "Cosmos-Predict2": Family("CosmosT2IPredict2", _COSMOS),
    "Ideogram 4": Family(
        "Ideogram4",
        {
            "image_model": "ideogram4", "in_channels": 128, "num_layers": 2,
            "num_attention_heads": 2, "attention_head_dim": 32, "intermediate_size": 64,
            "adaln_dim": 16, "llm_features_dim": TEXT, "mrope_section": (6, 5, 5),
        },
    ),
    "Ernie": Family(
        "ErnieImage",
        {
            "image_model": "ernie", "hidden_size": HIDDEN, "num_attention_heads": 2,
            "num_layers": 2, "ffn_hidden_size": 64, "text_in_dim": 24,
            "rope_axes_dim": (4, 6, 6),
        },
        text=24,
    ),
    "AuraFlow": Family(
        "AuraFlow",
        {
            "max_seq": 64, "cond_seq_dim": TEXT, "n_double_layers": 1, "n_layers": 3, "dim": 256,
            "n_heads": 2, "global_conddim": 256,
        },
    ),
    "PixArt Alpha": Family(
        "PixArtAlpha",
        {
            "image_model": "pixart_alpha", "num_heads": 2, "patch_size": 2, "hidden_size": 48,
            "in_channels": 4, "depth": 2, "model_max_length": 120, "input_size": 16,
            "pe_interpolation": 1, "micro_condition": True, "caption_channels": TEXT,
        },
        side=288,
    ),
    "PixArt Sigma": Family(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma", "num_heads": 2, "patch_size": 2, "hidden_size": 48,
            "in_channels": 4, "depth": 2, "model_max_length": 300, "input_size": 16,
            "pe_interpolation": 1, "micro_condition": False, "caption_channels": TEXT,
        },
        side=288,
    ),
    "Kandinsky 5": Family("Kandinsky5Image", _KANDINSKY, pooled=24),
    "OmniGen2": Family("Omnigen2", _OMNIGEN, extras=_mask, edits=_REFERENCE),
    "LongCat": Family(
        "LongCatImage", _flux(guidance_embed=False, vec_in_dim=None, txt_ids_dims=[1, 2]),
    ),
    "Ovis": Family(
        "FluxSchnell",
        _flux(
            guidance_embed=False, vec_in_dim=None, txt_ids_dims=[1, 2], yak_mlp=True,
            txt_norm=True,
        ),
    ),
    "JoyImage": Family(
        "JoyImage",
        {
            "image_model": "joyimage", "hidden_size": HIDDEN, "num_attention_heads": 2,
            "text_dim": TEXT, "num_layers": 2, "rope_dim_list": [4, 6, 6],
        },
        edits="TextEncodeJoyImageEdit",
    ),
    "Mage": Family("MageFlow", _QWEN | {"image_model": "mage_flow", "in_channels": 128},
                   edits="TextEncodeMageFlowEdit"),
    "Lens": Family(
        "Lens",
        {
            "image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 2,
            "attention_head_dim": 16, "num_attention_heads": 2, "enc_hidden_dim": TEXT,
            "multi_layer_encoder_feature": True, "selected_layer_index": (0, 1),
            "axes_dims_rope": (4, 6, 6),
        },
        text=2 * TEXT,
        extras=lambda tokens: {**_half_mask(tokens), "num_layers_stacked": 2},
    ),
    "Boogu": Family("Boogu", _BOOGU, extras=_mask, edits="TextEncodeBooguEdit"),
}  # fmt: skip
"""By the name that people have for it; of SD 1.5, SDXL and Flux.1 the text encoders are real."""
