"""Builds ComfyUI's own MODEL, CLIP and VAE from a diffusers folder in the layout of SD 1.x.

ComfyUI's loaders recognise models by their sizes and know no model as small as the miniature, so
the configuration is read from the folder instead of guessed from the weights.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import torch

log = logging.getLogger(__name__)

_UNET = "unet/diffusion_pytorch_model.safetensors"
_TEXT = "text_encoder/model.safetensors"


def load_model(folder: Path, disable_dynamic: bool = False) -> Any:
    """Return the UNet of a folder as a MODEL (``ModelPatcher``).

    ComfyUI calls this again where it wants a copy with weights of its own (its built-in training,
    a second device), saying that the copy is not to have dynamic memory, which this never has.
    """
    described = _config(folder, "unet")
    levels = len(described["block_out_channels"])
    blocks = described["layers_per_block"]
    width = described["block_out_channels"][0]
    down = [int("CrossAttn" in kind) for kind in described["down_block_types"]]
    up = [int("CrossAttn" in kind) for kind in reversed(described["up_block_types"])]
    config = {
        "image_size": 32,
        "in_channels": described["in_channels"],
        "out_channels": described["out_channels"],
        "model_channels": width,
        "channel_mult": [channels // width for channels in described["block_out_channels"]],
        "num_res_blocks": [blocks] * levels,
        "transformer_depth": [depth for depth in down for _ in range(blocks)],
        "transformer_depth_output": [depth for depth in up for _ in range(blocks + 1)],
        "transformer_depth_middle": 1,
        "context_dim": described["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": described["use_linear_projection"],
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "adm_in_channels": None,
        "legacy": False,
    }
    # diffusers calls the number of heads attention_head_dim in this layout.
    heads = {"num_heads": described["attention_head_dim"], "num_head_channels": -1}
    kind = type("SmallSD15", (comfy.supported_models.SD15,), {"unet_extra_config": heads})
    settings = kind(config)
    device = comfy.model_management.get_torch_device()
    # Small enough for float32 on any device, and as exact as it was trained.
    settings.set_inference_dtype(torch.float32, None)
    weights = comfy.utils.load_torch_file(str(folder / _UNET), safe_load=True)
    names = comfy.utils.unet_to_diffusers(config)
    model = settings.get_model({}, device=torch.device("cpu"))
    own = {names[name]: value for name, value in weights.items()}
    model.diffusion_model.load_state_dict(own, strict=True)
    patcher = comfy.model_patcher.ModelPatcher(
        model.eval(),
        load_device=device,
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.cached_patcher_init = (load_model, (folder,))
    return patcher


def load_clip(folder: Path) -> Any:
    """Return the text encoder and tokenizer of a folder as a CLIP."""
    config = _config(folder, "text_encoder")
    tokens = {
        "start": config["bos_token_id"],
        "end": config["eos_token_id"],
        "pad": config["pad_token_id"],
    }

    class Encoder(comfy.sd1_clip.SDClipModel):
        def __init__(
            self, device: Any = "cpu", dtype: Any = None, model_options: Any = None
        ) -> None:
            super().__init__(
                device=device,
                dtype=dtype,
                textmodel_json_config=dict(config),
                special_tokens=tokens,
                return_projected_pooled=False,
                model_options=model_options or {},
            )

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(
            self, device: Any = "cpu", dtype: Any = None, model_options: Any = None
        ) -> None:
            super().__init__(
                device=device, dtype=dtype, model_options=model_options or {}, clip_model=Encoder
            )

    class Words(comfy.sd1_clip.SDTokenizer):
        def __init__(self, **options: Any) -> None:
            super().__init__(
                tokenizer_path=str(folder / "tokenizer"),
                embedding_size=config["hidden_size"],
                **options,
            )

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=Words)

    class Target:
        params: dict[str, Any] = {}  # noqa: RUF012 (the shape that comfy.sd.CLIP reads)
        clip = Model
        tokenizer = Tokenizer

    clip = comfy.sd.CLIP(Target, embedding_directory=None, model_options={"dtype": torch.float32})
    weights = comfy.utils.load_torch_file(str(folder / _TEXT), safe_load=True)
    own = {_text_name(name): value for name, value in weights.items()}
    text = clip.cond_stage_model.clip_l.transformer
    key = "text_model.embeddings.token_embedding.weight"
    # ComfyUI's table of words always has CLIP's whole size; the rest is never looked up.
    whole = torch.zeros_like(text.state_dict()[key], device="cpu")
    whole[: len(own[key])] = own[key]
    own |= {key: whole, "text_projection.weight": torch.eye(config["hidden_size"])}
    text.load_state_dict(own, strict=True)
    return clip


def load_vae(folder: Path) -> Any:
    """Return the autoencoder of a folder as a VAE.

    ComfyUI's autoencoder has fixed group norms and an attention layer that this one lacks, so it
    is diffusers' own, behind ComfyUI's VAE.
    """
    module = _Autoencoder(folder / "vae")
    stand_in = {
        "double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3,
        "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    parameters = {"ddconfig": stand_in, "embed_dim": 4}
    from comfy.ldm.models.autoencoder import AutoencoderKL

    # Everything that a VAE object has, whichever ComfyUI this is, except for the module itself.
    vae = comfy.sd.VAE(
        sd=AutoencoderKL(**parameters).state_dict(),
        config={"params": parameters},
        dtype=torch.float32,
    )
    vae.first_stage_model = module
    vae.patcher = comfy.model_patcher.ModelPatcher(
        module,
        load_device=vae.device,
        offload_device=comfy.model_management.vae_offload_device(),
    )
    return vae


class _Autoencoder(torch.nn.Module):
    """diffusers' autoencoder with the two methods that ComfyUI's VAE calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        self.inner = AutoencoderKL.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True
        ).eval()

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the mean latents of pixels in [-1, 1]."""
        return self.inner.encode(pixels).latent_dist.mode()

    def decode(self, latents: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return pixels in about [-1, 1]."""
        return self.inner.decode(latents).sample


def _config(folder: Path, part: str) -> dict[str, Any]:
    from ...core.json_text import parse
    from ...core.plain_files import plain_text

    return parse(plain_text(folder / part / "config.json"))


def _text_name(name: str) -> str:
    """Newer libraries write the text model's names without their common prefix."""
    return name if name.startswith("text_model.") else f"text_model.{name}"
