"""The frozen parts of a pipeline: in memory while they are needed, laid out as they compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...generation import pipelines


@dataclass(frozen=True)
class PipelineSource:
    """What a pipeline was loaded from, so that a part of it can be loaded again.

    Attributes:
        folder: Of the pipeline, in the layout of diffusers.
        dtype: Number type of the weights.
        options: What else ``from_pretrained`` was given.
        file: The single file that weights come from; ``folder`` is then its configuration.
    """

    folder: Path
    dtype: torch.dtype
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def load(self, **there: Any) -> Any:
        """Load the pipeline onto the CPU, laid out as :func:`freeze` wants it.

        Args:
            **there: Parts that are loaded already.

        Raises:
            ModelNotFoundError: It can't be loaded.
        """
        pipeline = pipelines.load(self.folder, self.dtype, {**self.options, **there}, self.file)
        for name, part in pipeline.components.items():
            if isinstance(part, nn.Module) and name not in there:
                _arrange(part)
        return pipeline


def freeze(module: nn.Module) -> None:
    """Make a part ready to compute, never to be trained.

    Convolutions get the layout that they compute in, which they would rearrange their weights into
    in every step.
    """
    pipelines.lay_out(module)
    module.requires_grad_(False).eval()


def _arrange(module: nn.Module) -> None:
    """Put convolutions' weights, which nobody else knows, into their layout where they lie.

    A copy would take memory twice: what it is made of stays mapped from the file with the rest.
    """
    for weight in module.parameters():
        if weight.dim() == 4 and weight.is_contiguous():
            arranged = weight.data.contiguous(memory_format=torch.channels_last)
            place = weight.data.as_strided(weight.shape, arranged.stride())
            weight.data = place.copy_(arranged)


def is_trained(module: nn.Module) -> bool:
    """Whether a part has weights that are trained."""
    return any(weight.requires_grad for weight in module.parameters())


def is_offloaded(module: nn.Module | None) -> bool:
    """Whether a part is there by name alone, without its weights."""
    return module is not None and any(weight.is_meta for weight in module.parameters())


def offload(module: nn.Module) -> None:
    """Give back the memory of a part's weights, whoever holds the part."""
    module.to("meta")


def reload(pipeline: Any, names: Iterable[str], source: PipelineSource, device: Any) -> None:
    """Load offloaded parts of a pipeline again.

    Args:
        pipeline: Of diffusers.
        names: Of the parts; those that are in memory stay as they are.
        source: Where they come from.
        device: Where they go.

    Raises:
        ModelNotFoundError: They can't be loaded any more.
    """
    wanted = [name for name in names if is_offloaded(getattr(pipeline, name, None))]
    if not wanted:
        return
    there = {name: part for name, part in pipeline.components.items() if name not in wanted}
    fresh = source.load(**there)
    for name in wanted:
        part = getattr(fresh, name)
        freeze(part.to(device))
        pipeline.register_modules(**{name: part})
