"""Texts on the CLIP wire: encoded into plain tensors, and turned into what a model is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...core.training.denoisers.protocol import TextEmbeddings

_LENGTH = "length of "
_ENCODERS = ("clip_l", "clip_h", "clip_g")
"""ComfyUI's names of the text encoders that LoRA files can adapt, in the order of the files."""


def encode(clip: Any, caption: str) -> TextEmbeddings:
    """Encode a caption as CLIPTextEncode does."""
    return _embeddings(clip.encode_from_tokens(clip.tokenize(caption), return_dict=True))


def encode_with_gradients(clip: Any, caption: str) -> TextEmbeddings:
    """Encode a caption with the text encoders as they stand; they are where they compute."""
    model = clip.cond_stage_model
    model.reset_clip_options()
    if clip.layer_idx is not None:
        model.set_clip_options({"layer": clip.layer_idx})
    tokens = clip.tokenize(caption)
    found = model.encode_token_weights(tokens)
    further = found[2] if len(found) > 2 else {}
    return _embeddings({"cond": found[0], "pooled_output": found[1], **further})


def encoders(clip: Any) -> dict[str, Any]:
    """Return the text encoders that can carry adapters, as ``te1``, ``te2``."""
    model = clip.cond_stage_model
    found = [getattr(model, name, None) for name in _ENCODERS]
    there = [part.transformer for part in found if part is not None]
    return {f"te{number}": encoder for number, encoder in enumerate(there, start=1)}


def encoder_count(clip: Any) -> int:
    """Return how many text encoders there are, those that take no adapters included."""
    return len(encoders(clip)) + (getattr(clip.cond_stage_model, "t5xxl", None) is not None)


def conditions(
    model: Any,
    noisy: Tensor,
    text: TextEmbeddings,
    size: Sequence[tuple[int, int]],
    scale: int,
) -> list[dict[str, Any]]:
    """Return what a ``BaseModel`` is told of each row besides latents and timestep.

    Args:
        model: It says itself what it makes of a text and of the image's size.
        noisy: Latents, a row an image.
        text: A caption a row.
        size: Width and height of the whole image of each row, in pixels.
        scale: Pixels in a latent's cell.

    Returns:
        A row's conditions by name, as ``comfy.conds`` has them.
    """
    height, width = (int(edge) * scale for edge in noisy.shape[-2:])
    rows = []
    for number, (wide, high) in enumerate(size):
        row = noisy[number : number + 1]
        told = _row(text, number)
        found = model.extra_conds(
            cross_attn=told.pop("cond"),
            **told,
            noise=row,
            device=noisy.device,
            width=wide,
            height=high,
            crop_w=0,
            crop_h=0,
            target_width=width,
            target_height=height,
            prompt_type="positive",
            guidance=1.0,  # distilled guidance: at 1 the prediction is the plain one
        )
        rows.append(
            {name: cond.process_cond(batch_size=1, area=None) for name, cond in found.items()}
        )
    return rows


def groups(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return which rows can go through the model together: captions of one length."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        key = str([(name, cond.size()) for name, cond in sorted(row.items())])
        found.setdefault(key, []).append(number)
    return list(found.values())


def _embeddings(found: Mapping[str, Any]) -> TextEmbeddings:
    from ...core.training.denoisers.protocol import TextEmbeddings

    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) and value.dim() and len(value) == 1
    }
    lengths = {
        f"{_LENGTH}{name}": torch.tensor([value.shape[1]])
        for name, value in tensors.items()
        if value.dim() > 1
    }
    return TextEmbeddings({**tensors, **lengths})


def _row(text: TextEmbeddings, number: int) -> dict[str, Tensor]:
    """Return one caption's tensors, without what was put behind the shorter captions of a batch."""
    row = {}
    for name, value in text.tensors.items():
        if not name.startswith(_LENGTH):
            length = text.tensors.get(f"{_LENGTH}{name}")
            own = value[number : number + 1]
            row[name] = own if length is None else own[:, : int(length[number])]
    return row
