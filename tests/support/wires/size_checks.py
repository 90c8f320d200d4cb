"""The sizes of what TrainLoRA and EvaluateLoRA make, whatever a family's latent cell is."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.wires.family_checks import CAPTIONS, _module, denoiser_of


def size_faults(wires: Any, side: int) -> list[str]:
    """Return where TrainLoRA's samples or EvaluateLoRA's images have not the wanted size."""
    adapters, buckets = _module("core.lora.adapters"), _module("core.training.data.buckets")
    samples = _module("core.training.outputs.samples")
    wanted = (1, side, side + 32, 3)
    asked = samples.SampleSettings(prompts=(CAPTIONS[0],), steps=1, guidance=1.0)
    with torch.inference_mode(False), denoiser_of(wires) as denoiser:
        settings = adapters.LoraSettings(rank=2, alpha=2.0, dropout=0.0)
        made = adapters.inject({"denoiser": denoiser.module()}, settings, seed=1)
        sampled = denoiser.sample(made, asked, buckets.Size(side + 32, side)).shape
        step = denoiser.pixel_step
        made.remove()
    chosen = _module("nodes.comfy.backend").Sampling("euler", "normal", 1, 1.0, side + 32, side)
    evaluated = _module("nodes.evaluate.on_wires").EvaluatedWires(
        wires.model, wires.clip, wires.vae, "", chosen, 1.0, None, lambda _: None
    )
    requests = _module("nodes.comfy.denoiser")._requests(asked)
    rated = evaluated.backend(None).sample(requests).shape
    cell = int(wires.vae.spacial_compression_encode())
    faults = [] if step % cell == 0 else [f"buckets of {step} pixels, cells of {cell}"]
    faults += [f"samples are {sampled}"] if sampled != wanted else []
    return faults + ([f"evaluated images are {rated}"] if rated != wanted else [])
