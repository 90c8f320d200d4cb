"""Whether diffusers reads a family's LoRA file, every layer of it, as strong as it is.

The file's weights go through the conversion of the family's pipeline into its own class of
transformer, made as small as ComfyUI's. What arrives there must be as much as was sent: the squares
of all weight changes have the same sum, in however many layers diffusers keeps them.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.support.comfyui.pack import NAME
from tests.support.wires.families import FAMILIES, Family

RANK, ALPHA = 2, 3.0
"""Another alpha than the rank: who loses it is found out."""


@dataclass(frozen=True)
class Reader:
    """How diffusers would read a family's file.

    Attributes:
        loader: Its class that converts the names; none where it has none, and a file in its own
            names goes to the transformer itself.
        model: Its class of transformer, or UNet.
        config: Makes its settings of ComfyUI's.
        wide: Changes of ComfyUI's settings where the conversion knows one width alone; no weights
            are made then.
        more: Classes and settings of other parts of the pipeline that take layers of the file.
    """

    loader: str
    model: str
    config: Callable[[Mapping[str, Any]], dict[str, Any]]
    wide: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)


def _unet(c: Mapping[str, Any]) -> dict[str, Any]:
    crossed = [depth > 0 for depth in c["transformer_depth"]]
    is_xl = c["adm_in_channels"] is not None
    found = {
        "block_out_channels": [c["model_channels"] * times for times in c["channel_mult"]],
        "layers_per_block": c["num_res_blocks"][0],
        "down_block_types": ["CrossAttnDownBlock2D" if x else "DownBlock2D" for x in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if x else "UpBlock2D" for x in crossed[::-1]],
        "cross_attention_dim": c["context_dim"],
        "use_linear_projection": c["use_linear_in_transformer"],
        "attention_head_dim": [2, 4] if is_xl else 4,
    }
    added = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": c["adm_in_channels"],
    }  # fmt: skip
    return found | (added if is_xl else {})


def _sd3(c: Mapping[str, Any]) -> dict[str, Any]:
    width = 64 * c["depth"]
    return {
        "num_layers": c["depth"], "attention_head_dim": 64, "num_attention_heads": c["depth"],
        "joint_attention_dim": 32, "caption_projection_dim": width, "pooled_projection_dim": 24,
        "pos_embed_max_size": 8, "qk_norm": {"rms": "rms_norm"}.get(c.get("qk_norm", "")),
        "dual_attention_layers": tuple(c["x_block_self_attn_layers"]),
    }  # fmt: skip


def _flux(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_layers": c["depth"], "num_single_layers": c["depth_single_blocks"],
        "attention_head_dim": c["hidden_size"] // c["num_heads"],
        "num_attention_heads": c["num_heads"], "joint_attention_dim": c["context_in_dim"],
        "axes_dims_rope": tuple(c["axes_dim"]),
    }  # fmt: skip


def _flux2(c: Mapping[str, Any]) -> dict[str, Any]:
    return {**_flux(c), "in_channels": 128, "guidance_embeds": c["guidance_embed"]}


def _qwen(c: Mapping[str, Any]) -> dict[str, Any]:
    same = ("in_channels", "num_layers", "attention_head_dim", "num_attention_heads")
    return {n: c[n] for n in (*same, "joint_attention_dim", "axes_dims_rope")}


def _z_image(c: Mapping[str, Any]) -> dict[str, Any]:
    same = ("in_channels", "dim", "n_layers", "n_refiner_layers", "n_heads", "n_kv_heads")
    return {**{n: c[n] for n in (*same, "cap_feat_dim", "axes_dims")}}


def _as_they_are(c: Mapping[str, Any]) -> dict[str, Any]:
    comfyui = ("image_model", "dtype", "device", "disable_unet_model_creation")
    return {name: value for name, value in c.items() if name not in comfyui}


def _wan(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_attention_heads": c["num_heads"], "attention_head_dim": c["dim"] // c["num_heads"],
        "in_channels": c["in_dim"], "out_channels": c["out_dim"], "text_dim": c["text_dim"],
        "freq_dim": c["freq_dim"], "ffn_dim": c["ffn_dim"], "num_layers": c["num_layers"],
    }  # fmt: skip


def _krea2(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "in_channels": c["channels"] * c["patch"] ** 2, "num_layers": c["layers"],
        "attention_head_dim": c["features"] // c["heads"], "num_attention_heads": c["heads"],
        "num_key_value_heads": c["kvheads"], "timestep_embed_dim": c["tdim"],
        "text_hidden_dim": c["txtdim"], "num_text_layers": c["txtlayers"],
        "text_num_attention_heads": c["txtheads"],
        "text_num_key_value_heads": c["txtkvheads"],
        "intermediate_size": 4 * c["features"], "text_intermediate_size": 4 * c["txtdim"],
        "axes_dims_rope": (4, 6, 6),
    }  # fmt: skip


def _cosmos(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_attention_heads": c["num_heads"], "num_layers": c["num_blocks"],
        "attention_head_dim": c["model_channels"] // c["num_heads"],
        "text_embed_dim": c["crossattn_emb_channels"], "adaln_lora_dim": c["adaln_lora_dim"],
        "extra_pos_embed_type": None,
    }  # fmt: skip


def _auraflow(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_mmdit_layers": c["n_double_layers"],
        "num_single_dit_layers": c["n_layers"] - c["n_double_layers"],
        "attention_head_dim": c["dim"] // c["n_heads"], "num_attention_heads": c["n_heads"],
        "joint_attention_dim": c["cond_seq_dim"], "caption_projection_dim": c["dim"],
        "pos_embed_max_size": c["max_seq"],
    }  # fmt: skip


def _kandinsky(c: Mapping[str, Any]) -> dict[str, Any]:
    same = ("model_dim", "axes_dims", "time_dim", "ff_dim", "in_text_dim", "in_text_dim2")
    more = ("num_text_blocks", "num_visual_blocks", "out_visual_dim", "in_visual_dim")
    return {name: c[name] for name in (*same, *more)}


_WIDE = {"hidden_size": 3072, "num_heads": 24, "depth": 1, "depth_single_blocks": 1,
         "axes_dim": [16, 56, 56]}  # fmt: skip
_CHROMA = _WIDE | {"out_dim": 3072}
_Z_IMAGE = {"dim": 384, "n_heads": 12, "n_kv_heads": 12, "ffn_dim_multiplier": 8 / 3}
_LUMINA = {"dim": 2304, "n_heads": 24, "n_kv_heads": 8, "axes_dims": [32, 32, 32],
           "ffn_dim_multiplier": 4.0, "multiple_of": 256}  # fmt: skip
_WORDS = {"source_dim": 32, "target_dim": 32, "model_dim": 32, "num_layers": 1,
          "num_attention_heads": 2}  # fmt: skip


def _lumina(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": c["dim"], "num_layers": c["n_layers"], "cap_feat_dim": c["cap_feat_dim"],
        "num_refiner_layers": c["n_refiner_layers"], "num_attention_heads": c["n_heads"],
        "num_kv_heads": c["n_kv_heads"], "ffn_dim_multiplier": c["inner"] / (4 * c["dim"]),
        "axes_dim_rope": tuple(c["axes_dims"]),
    }  # fmt: skip


_SD = Reader("StableDiffusionPipeline", "UNet2DConditionModel", _unet)
_SDXL = Reader("StableDiffusionXLPipeline", "UNet2DConditionModel", _unet)
_SD3 = Reader("StableDiffusion3Pipeline", "SD3Transformer2DModel", _sd3)
_FLUX = Reader("FluxPipeline", "FluxTransformer2DModel", _flux, _WIDE)
_FLUX2 = Reader("Flux2Pipeline", "Flux2Transformer2DModel", _flux2)
_QWEN = Reader("QwenImagePipeline", "QwenImageTransformer2DModel", _qwen)
_WAN = Reader("WanPipeline", "WanTransformer3DModel", _wan)

READERS: Mapping[str, Reader] = {
    "SD 1.5": _SD, "SD 1.5, v": _SD, "SDXL": _SDXL, "SDXL, v": _SDXL,
    "SD3": _SD3, "SD3.5": _SD3,
    "Flux.1": _FLUX, "Flux.1 Schnell": _FLUX, "Flux.1 Kontext": _FLUX,
    "Flux.2": _FLUX2, "Flux.2 Klein": _FLUX2,
    "Chroma": Reader("ChromaPipeline", "ChromaTransformer2DModel", _flux, _CHROMA),
    "Qwen-Image": _QWEN, "Qwen-Image, fp8_scaled": _QWEN, "Qwen-Image, int8": _QWEN,
    "Qwen-Image-Edit": _QWEN,
    "Z-Image": Reader("ZImagePipeline", "ZImageTransformer2DModel", _z_image, _Z_IMAGE),
    "Lumina 2": Reader("Lumina2Pipeline", "Lumina2Transformer2DModel", _lumina, _LUMINA),
    "HiDream": Reader("HiDreamImagePipeline", "HiDreamImageTransformer2DModel", _as_they_are),
    "Wan 2.1": _WAN, "Wan 2.2 5B": _WAN,
    "Krea 2": Reader("Krea2Pipeline", "Krea2Transformer2DModel", _krea2),
    "Anima": Reader(
        "AnimaModularPipeline", "CosmosTransformer3DModel", _cosmos,
        more={"text_conditioner": ("AnimaTextConditioner", _WORDS)},
    ),
    "Cosmos-Predict2": Reader("", "CosmosTransformer3DModel", _cosmos),
    "Ideogram 4": Reader("Ideogram4Pipeline", "Ideogram4Transformer2DModel", _as_they_are),
    "Ernie": Reader("ErnieImagePipeline", "ErnieImageTransformer2DModel", _as_they_are),
    "AuraFlow": Reader("AuraFlowPipeline", "AuraFlowTransformer2DModel", _auraflow),
    "Kandinsky 5": Reader("Kandinsky5T2IPipeline", "Kandinsky5Transformer3DModel", _kandinsky),
    "LongCat": Reader("", "LongCatImageTransformer2DModel", _flux),
}  # fmt: skip
"""By family; of others diffusers has no model that a file's names would fit."""

ABSENT: Mapping[str, str] = {
    "Chroma Radiance": "no Radiance in it",
    "HunyuanImage 2.1": "no LoRAs for its HunyuanImage, whose names ComfyUI does not know",
    "PixArt Alpha": "no LoRAs for its PixArt", "PixArt Sigma": "no LoRAs for its PixArt",
    "OmniGen2": "no OmniGen2 in it",
    "Ovis": "no LoRAs for its Ovis, which fuses other layers",
    "JoyImage": "no LoRAs for its JoyImage, whose names ComfyUI does not know",
    "Mage": "no Mage in it", "Lens": "no Lens in it", "Boogu": "no Boogu in it",
}  # fmt: skip
"""Why diffusers reads no file of a family."""


def readers(name: str, wires: Any) -> dict[str, Any]:
    """Return whether diffusers reads a family's file, and which spellings ComfyUI does not."""
    return {"diffusers": _verdict(name, wires), "unknown_to_comfyui": _unknown(wires)}


def _verdict(name: str, wires: Any) -> str:
    if name in ABSENT:
        return f"no: {ABSENT[name]}"
    said = []
    for spelling, text in (("auto", "yes"), ("diffusers", 'with `file_spelling = "diffusers"`')):
        found = read_by_diffusers(name, wires, spelling)
        if "absent" in found:
            return f"no: {found['absent']}"
        if found.get("error", 1.0) < 1e-5 and not found["left"]:
            return text
        said.append(f"{spelling}: {found}")
    return f"no: {'; '.join(said)}"


def _unknown(wires: Any) -> list[str]:
    """Return the spellings of a model's files some of whose keys the stock loader does not know."""
    import comfy.lora

    model = wires.model.model
    known = comfy.lora.model_lora_keys_unet(model, {})
    ends = (".lora_A.weight", ".lora_down.weight")
    return [
        spelling
        for spelling in names_of(model).spellings
        if any(key.rpartition(".lora_")[0] not in known
               for key in _file(model, spelling)[0] if key.endswith(ends))
    ]  # fmt: skip


def names_of(model: Any) -> Any:
    """Return how files may call a model's layers."""
    kinds = _module("nodes.comfy.model_kinds")
    architecture = kinds.architecture_of(model, kinds.prediction_of(model.model_sampling))
    return _module("nodes.comfy.file_names").file_names(model, architecture, 1)


def read_by_diffusers(name: str, wires: Any, spelling: str = "auto") -> dict[str, Any]:
    """Let diffusers read a family's file; return how much arrived, and what is wrong.

    Args:
        name: Of the family.
        wires: Its tiny model.
        spelling: Of the file.
    """
    reader = READERS[name]
    model, config = _sized(name, wires, reader)
    tensors, sent = _file(model, spelling)
    import diffusers

    if not hasattr(diffusers, reader.model) or not hasattr(diffusers, reader.loader or "logging"):
        return {
            "absent": f"no {reader.loader or reader.model} in diffusers {diffusers.__version__}"
        }
    with torch.device("meta" if reader.wide else "cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(diffusers, reader.model)(**reader.config(config))
    try:
        arrived, layers, left = _loaded(reader, theirs, tensors)
    except Exception as error:  # whatever diffusers raises is the answer
        return {"refused": f"{type(error).__name__}: {str(error)[:200]}"}
    return {"error": abs(arrived / sent - 1), "layers": layers, "left": left}


def _module(path: str) -> Any:
    return importlib.import_module(f"{NAME}.{path}")


def _sized(name: str, wires: Any, reader: Reader) -> tuple[Any, Mapping[str, Any]]:
    """Return ComfyUI's model of a family, as wide as the conversion wants it, and its settings."""
    model = wires.model.model
    own = dict(model.model_config.unet_config)
    family = FAMILIES[name]
    if not reader.wide:
        return model, own | dict(family.config if isinstance(family, Family) else {})
    kind = type(model.model_config)
    settings = kind(own | dict(reader.wide))
    settings.unet_config.update(own | dict(reader.wide))
    settings.set_inference_dtype(torch.float32, None)
    sized = settings.get_model({}, device=torch.device("meta"))
    # Versions of ComfyUI mean different things by the multiplier of Lumina 2's feed-forward part.
    inner = {
        path: layer.out_features
        for path, layer in sized.diffusion_model.named_modules()
        if path.endswith("feed_forward.w1")
    }
    return sized, settings.unet_config | {"inner": next(iter(inner.values()), 0)}


def _file(model: Any, spelling: str) -> tuple[dict[str, torch.Tensor], float]:
    """Return random weights as a file has them, and the sum of the squares of their changes."""
    written, names = _module("core.lora.spelling"), names_of(model)(spelling)
    source, tensors, sent = torch.Generator().manual_seed(1), {}, 0.0
    for path in _module("core.lora.targets").place(model.diffusion_model, "full").paths:
        layer = model.diffusion_model.get_submodule(path)
        shape = tuple(layer.weight.shape)
        if hasattr(layer, "in_features"):  # quantised weights have other shapes than layers
            shape = (layer.out_features, layer.in_features)
        down = torch.randn(RANK, *shape[1:], generator=source)
        up = torch.randn(shape[0], RANK, *(1,) * (len(shape) - 2), generator=source)
        sent += float((ALPHA / RANK * up.flatten(1) @ down.flatten(1)).square().sum())
        parts = {written.DOWN: down, written.UP: up, written.ALPHA: torch.tensor(ALPHA)}
        for piece in written.pieces(names, "denoiser", path):
            tensors |= written.written(piece, parts)
    return tensors, sent


def _loaded(reader: Reader, theirs: Any, tensors: dict[str, Any]) -> tuple[float, int, list[str]]:
    """Load a file; return the squares' sum of the changes, how many layers, and what was left."""
    import diffusers

    prefix = "unet" if reader.model.startswith("UNet") else "transformer"
    alphas = None
    state: Any = dict(tensors)
    if reader.loader:
        options = {"unet_config": theirs.config} if prefix == "unet" else {}
        found = getattr(diffusers, reader.loader).lora_state_dict(state, **options)
        state, alphas = found[:2] if isinstance(found, tuple) else (found, None)
    if reader.wide:
        return _fitting(theirs, state)
    arrived, count = _adapted(theirs, state, prefix, alphas)
    for part, (kind, config) in reader.more.items():
        more = _adapted(getattr(diffusers, kind)(**config), state, part, None)
        arrived, count = arrived + more[0], count + more[1]
    parts = tuple(f"{part}." for part in (prefix, *reader.more))
    return arrived, count, [key for key in state if not key.startswith(parts)]


def _adapted(theirs: Any, state: dict, prefix: str, alphas: Any) -> tuple[float, int]:
    """Let diffusers place adapters on a model; return the squares' sum and the layers' number."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    theirs.load_lora_adapter(
        dict(state), network_alphas=alphas or None, prefix=prefix, adapter_name="default"
    )
    arrived, count = 0.0, 0
    for _, layer in theirs.named_modules():
        if isinstance(layer, BaseTunerLayer):
            up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
            change = layer.scaling["default"] * up.flatten(1) @ down.flatten(1)
            arrived += float(change.square().sum())
            count += 1
    return arrived, count


def _fitting(theirs: Any, state: dict) -> tuple[float, int, list[str]]:
    """Compare converted weights with a model that has no weights: their names and their shapes."""
    modules = dict(theirs.named_modules())
    arrived, count, left = 0.0, 0, []
    for key, down in state.items():
        if not key.endswith(".lora_A.weight"):
            left += [] if key.endswith(".lora_B.weight") else [key]
            continue
        layer = modules.get(key.removeprefix("transformer.").removesuffix(".lora_A.weight"))
        up = state[key.replace("lora_A", "lora_B")]
        if layer is None or (up.shape[0], down.shape[1]) != tuple(layer.weight.shape):
            left.append(key)
            continue
        arrived += float((up @ down).square().sum())
        count += 1
    return arrived, count, left
