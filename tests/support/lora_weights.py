"""Models to train, and weights of adapters as training leaves them."""

from __future__ import annotations

import copy
from functools import cache

from character_curator.lora import names as layer_names
from character_curator.lora.adapters import LoraSettings, inject

KINDS = {
    "lora": LoraSettings(rank=4, alpha=3, targets="full"),
    "rslora": LoraSettings(rank=4, alpha=3, targets="full", rslora=True),
    "dora": LoraSettings(rank=4, alpha=3, targets="full", dora=True),
    "lokr": LoraSettings(rank=2, alpha=3, targets="full", kind="lokr", factor=4),
    "lokr, both": LoraSettings(rank=1, alpha=3, targets="full", kind="lokr", decompose_both=True),
    "lokr, whole": LoraSettings(rank=64, alpha=48, targets="full", kind="lokr"),
    "loha": LoraSettings(rank=4, alpha=3, targets="full", kind="loha"),
}
"""Every kind of adapter, on every layer that can have one."""


@cache
def _loaded(folder):
    from diffusers import AutoPipelineForText2Image

    return AutoPipelineForText2Image.from_pretrained(folder)


def pipeline_in(folder):
    """A pipeline of its own, copied from one that is loaded once: many tests change theirs."""
    return copy.deepcopy(_loaded(folder))


def shake(adapters, seed=0):
    """Move every weight of the adapters, so that they change the output visibly."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def trained(modules, settings):
    """Return adapters as training leaves them: every weight moved, DoRA's magnitudes too."""
    adapters = inject(modules, settings)
    shake(adapters)
    for module in modules.values():
        module.eval()
    return adapters


def kohya(part, path):
    """Return a layer's name in the file of a model with one text encoder."""
    return layer_names.kohya(part, path)


def kohya_xl(part, path):
    """Return a layer's name in the file of a model with two text encoders."""
    return layer_names.kohya(part, path, text_encoders=2)
