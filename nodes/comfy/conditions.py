"""Texts on the CLIP wire: encoded into plain tensors, and turned into what a model is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from .model_kinds import is_unet

if TYPE_CHECKING:
    from ...core.training.denoisers.protocol import TextEmbeddings

_LENGTH = "length of "
_SHAPE = "shape of "
_WHOLE = "whole "
"""Before the name of a tensor whose first dimension is not the captions'."""
_NUMBER = "number "
"""Before the name of a plain number."""
_OF_A_LIST = re.compile(r"(\d+) of (.+)")
"""The name of a tensor that is one of a list's, such as one of several reference latents."""
_ENCODERS = ("clip_l", "clip_h", "clip_g")
"""ComfyUI's names of the text encoders that LoRA files can adapt, in the order of the files."""


def encode(clip: Any, caption: str) -> TextEmbeddings:
    """Encode a caption as CLIPTextEncode does."""
    return embeddings(clip.encode_from_tokens(clip.tokenize(caption), return_dict=True))


def encode_with_gradients(clip: Any, caption: str) -> TextEmbeddings:
    """Encode a caption with the text encoders as they stand; they are where they compute."""
    model = clip.cond_stage_model
    model.reset_clip_options()
    if clip.layer_idx is not None:
        model.set_clip_options({"layer": clip.layer_idx})
    tokens = clip.tokenize(caption)
    found = model.encode_token_weights(tokens)
    further = found[2] if len(found) > 2 else {}
    return embeddings({"cond": found[0], "pooled_output": found[1], **further})


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

    The model is asked by the code that a KSampler asks it with. What a sampling leaves at the
    model's own values is left so, but for two things: UNets are told the size of the whole image,
    and distilled guidance is 1, where the prediction is the plain one.

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
        if is_unet(model):
            told |= {
                "width": wide,
                "height": high,
                "crop_w": 0,
                "crop_h": 0,
                "target_width": width,
                "target_height": height,
            }
        if model.model_config.unet_config.get("guidance_embed"):
            told["guidance"] = 1.0
        given = comfy.sampler_helpers.convert_cond([[told.pop("cond"), told]])
        (found,) = comfy.samplers.encode_model_conds(
            model.extra_conds,
            given,
            row,
            noisy.device,
            "positive",
            latent_image=torch.zeros_like(row),
            denoise_mask=None,
            seed=None,
            latent_shapes=[row.shape],
        )
        rows.append(
            {
                name: cond.process_cond(batch_size=1, area=None)
                for name, cond in found["model_conds"].items()
            }
        )
    return rows


def groups(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return which rows can go through the model together: those told of one length.

    A row that masks words goes alone: not every model takes a mask for each row.
    """
    found: list[list[int]] = []
    for number, row in enumerate(rows):
        for group in found:
            if not _has_mask(row) and _go_together(rows[group[0]], row):
                group.append(number)
                break
        else:
            found.append([number])
    return found


def _has_mask(row: Mapping[str, Any]) -> bool:
    mask = row.get("attention_mask")
    return mask is not None and not bool(mask.cond.all())


def _go_together(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        cond.size() == other[name].size() and cond.can_concat(other[name])
        for name, cond in one.items()
    )


def _flat(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is said by name, each of a list's entries under a name of its own."""
    for name, value in found.items():
        if isinstance(value, list):
            yield from ((f"{number} of {name}", entry) for number, entry in enumerate(value))
        else:
            yield name, value


def embeddings(found: Mapping[str, Any]) -> TextEmbeddings:
    """Return what is said with one caption as plain tensors."""
    from ...core.training.denoisers.protocol import TextEmbeddings

    tensors: dict[str, Tensor] = {}
    for name, value in _flat(found):
        if isinstance(value, Tensor) and value.dim() and len(value) == 1:
            tensors[name] = value
            if value.dim() > 1:
                tensors[f"{_LENGTH}{name}"] = torch.tensor([value.shape[1]])
            if value.dim() > 3:
                tensors[f"{_SHAPE}{name}"] = torch.tensor([value.shape[1:]])
        elif isinstance(value, Tensor) and value.dim():
            tensors[f"{_WHOLE}{name}"] = value[None]
            tensors[f"{_SHAPE}{_WHOLE}{name}"] = torch.tensor([value.shape])
        elif isinstance(value, bool | int | float | Tensor):
            tensors[f"{_NUMBER}{name}"] = torch.as_tensor(value).reshape(1)
    return TextEmbeddings(tensors)


def _row(text: TextEmbeddings, number: int) -> dict[str, Any]:
    """Return what was said of one caption, without what fills up the shorter ones of a batch."""
    row: dict[str, Any] = {"pooled_output": None}  # some models ask for it whether it is there
    for name, value in text.tensors.items():
        if name.startswith((_LENGTH, _SHAPE)):
            continue
        own = value[number : number + 1]
        shape = text.tensors.get(f"{_SHAPE}{name}")
        length = text.tensors.get(f"{_LENGTH}{name}")
        if shape is not None:
            within = (slice(None), *(slice(int(size)) for size in shape[number]))
            own = own[within]
        elif length is not None:
            own = own[:, : int(length[number])]
        if not own.numel():  # what another caption of the batch alone has
            continue
        if name.startswith(_NUMBER):
            row[name.removeprefix(_NUMBER)] = own.item()
        elif name.startswith(_WHOLE):
            row[name.removeprefix(_WHOLE)] = own[0]
        else:
            row[name] = own
    return _with_lists(row)


def _with_lists(row: dict[str, Any]) -> dict[str, Any]:
    """Put entries of lists back into lists."""
    lists: dict[str, list[tuple[int, Any]]] = {}
    for name in list(row):
        entry = _OF_A_LIST.fullmatch(name)
        if entry is not None:
            lists.setdefault(entry[2], []).append((int(entry[1]), row.pop(name)))
    for name, entries in lists.items():
        row[name] = [value for _, value in sorted(entries, key=lambda entry: entry[0])]
    return row
