"""Prompts as the arguments of a diffusers pipeline, each distinct prompt encoded once."""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

_UNUSED = ""
# Which argument each value of encode_prompt is, by family: how the pipeline's class begins.
_RETURNED = {
    "StableDiffusionXL": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
    "StableDiffusion3": (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
    "StableDiffusion": ("prompt_embeds", "negative_prompt_embeds"),
    # The further values, ids of text positions, are the same for every prompt.
    "Flux2": ("prompt_embeds",),
    "Flux": ("prompt_embeds", "pooled_prompt_embeds"),
    "Chroma": (
        "prompt_embeds",
        _UNUSED,
        "prompt_attention_mask",
        "negative_prompt_embeds",
        _UNUSED,
        "negative_prompt_attention_mask",
    ),
}
_OF_ANY_LENGTH = ("QwenImage", "ZImage")
"""Families that see as many tokens as a prompt has: a batch's rows are padded to its longest."""
_CACHE_BYTES = 1 << 30


def guidance_arguments(pipeline: Any, guidance: float) -> dict[str, float]:
    """Return the keyword arguments by which a pipeline is told the guidance scale.

    Args:
        pipeline: Of diffusers.
        guidance: Of the negative prompt, or the distilled one of models that take it.
    """
    # Where a pipeline has both, guidance_scale is that of distilled models alone.
    if _is_qwen(pipeline):
        distilled = pipeline.transformer.config.guidance_embeds
        return {"true_cfg_scale": guidance} | ({"guidance_scale": guidance} if distilled else {})
    return {"guidance_scale": guidance}


def has_rows_of_any_length(pipeline_class: str) -> bool:
    """Whether prompts of one batch of such pipelines lengthen each other, to the last bits."""
    return pipeline_class.startswith(_OF_ANY_LENGTH)


class PromptArguments:
    """Turns prompts into arguments of one pipeline.

    Pipelines of known families get embeddings, computed one prompt at a time (so that an embedding
    does not depend on its neighbours) and kept in main memory, up to 1 GiB. Others get texts.
    """

    def __init__(self, pipeline: Any, guided: bool) -> None:
        name = type(pipeline).__name__
        families = (family for family in _RETURNED if name.startswith(family))
        self._names = _RETURNED.get(next(families, ""))
        self._pipeline = pipeline
        self._guided = guided
        self._known: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._bytes = 0
        parameters = inspect.signature(type(pipeline).__call__).parameters
        self._takes_negative = "negative_prompt" in parameters and not name.startswith("Flux")
        self._warned = False

    def __call__(self, prompts: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return keyword arguments for a batch of (prompt, negative prompt)."""
        import torch

        if any(negative for _, negative in prompts) and not self._takes_negative:
            self._warn_of_negatives()
        if self._names is None:
            texts: dict[str, Any] = {"prompt": [prompt for prompt, _ in prompts]}
            if self._takes_negative and (self._guided or not _is_qwen(self._pipeline)):
                texts["negative_prompt"] = [negative for _, negative in prompts]
            return texts
        rows = [self._encoded(prompt, negative) for prompt, negative in prompts]
        device = self._pipeline._execution_device
        return {name: torch.cat([row[name] for row in rows]).to(device) for name in rows[0]}

    def _encoded(self, prompt: str, negative: str) -> dict[str, Any]:
        if not self._takes_negative:
            negative = ""
        key = (prompt, negative)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        row = self._encode(prompt, negative)
        self._known[key] = row
        self._bytes += _size(row)
        while self._bytes > _CACHE_BYTES and len(self._known) > 1:
            self._bytes -= _size(self._known.popitem(last=False)[1])
        return row

    def _encode(self, prompt: str, negative: str) -> dict[str, Any]:
        import torch

        wanted = {
            "prompt": prompt,
            "prompt_2": None,
            "prompt_3": None,
            # SDXL and its like have a special embedding of no negative prompt at all.
            "negative_prompt": negative or None,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": self._guided,
            "device": self._pipeline._execution_device,
        }
        accepted = inspect.signature(self._pipeline.encode_prompt).parameters
        with torch.no_grad():
            values = self._pipeline.encode_prompt(
                **{name: value for name, value in wanted.items() if name in accepted}
            )
        named = zip(self._names or (), values, strict=False)
        return {name: value.cpu() for name, value in named if name and value is not None}

    def _warn_of_negatives(self) -> None:
        if not self._warned:
            log.warning("%s takes no negative prompt", type(self._pipeline).__name__)
            self._warned = True


def _is_qwen(pipeline: Any) -> bool:
    return type(pipeline).__name__.startswith("QwenImage")


def _size(row: dict[str, Any]) -> int:
    return sum(value.numel() * value.element_size() for value in row.values())
