"""How LoRA files call the layers of a model.

Two conventions are read by everybody who can load the model at all. kohya's,
``lora_unet_mid_block_attentions_0_proj_in``, is that of UNets and their text encoders. The dotted
one, ``transformer.transformer_blocks.0.attn.to_q``, is that of transformers: ComfyUI maps the
separate q, k and v of diffusers onto its joint layers, which kohya's names can't say.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"te1": "text_encoder", "te2": "text_encoder_2"}


def kohya(part: str, path: str, *, text_encoders: int = 1) -> str:
    """Return kohya's name of a layer.

    Args:
        part: ``denoiser``, ``te1`` or ``te2``.
        path: The layer's path in its module.
        text_encoders: How many the model has: a single one is called ``lora_te``.
    """
    if part == "denoiser":
        prefix = "lora_unet"
    else:
        prefix = "lora_te" if text_encoders == 1 else f"lora_{part}"
        path = _clip_path(path)
    return f"{prefix}_{path.replace('.', '_')}"


def diffusers(part: str, path: str) -> str:
    """Return the name of a layer after diffusers' parts: ``transformer.…``, ``text_encoder.…``."""
    if part == "denoiser":
        return f"transformer.{path}"
    return f"{_TEXT[part]}.{_clip_path(path)}"


def generic(part: str, path: str) -> str:
    """Return the name that ComfyUI knows for its own modules, of any architecture."""
    return f"diffusion_model.{path}" if part == "denoiser" else kohya(part, path, text_encoders=2)


def of_pipeline(pipeline: Any) -> dict[str, tuple[str, Any]]:
    """Return, by each name that a file may call it, a layer's path from a pipeline and the layer.

    Args:
        pipeline: Of diffusers.
    """
    import torch

    clips = [name for name in _TEXT.values() if getattr(pipeline, name, None) is not None]
    clips = [n for n in clips if type(getattr(pipeline, n)).__name__.startswith("CLIPText")]
    parts = {"unet": "denoiser", "transformer": "denoiser"}
    parts |= {name: f"te{n}" for n, name in enumerate(clips, start=1)}
    layers = {}
    for where, part in parts.items():
        module = getattr(pipeline, where, None)
        for path, layer in module.named_modules() if module is not None else ():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
                path = path.removesuffix(".base_layer")  # where another LoRA is loaded already
                found = f"{where}.{path}", layer
                layers[kohya(part, path, text_encoders=len(clips))] = found
                layers[diffusers(part, path)] = found
    return layers


def is_kohya(key: str) -> bool:
    """Whether a name is of kohya's convention."""
    return "." not in key


def _clip_path(path: str) -> str:
    # transformers 5 leaves out the level 'text_model' that every LoRA file names.
    named = path.startswith(("text_model.", "text_projection"))
    return path if named else f"text_model.{path}"
