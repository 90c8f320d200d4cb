"""What must hold of edit models: control images are told in training as stock nodes tell them.

Imported in a process that has ComfyUI's modules.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

from tests.support.comfyui.pack import NAME
from tests.support.wires.family_checks import CAPTIONS, denoiser_of, pixels, told_otherwise

_MODULES = {
    "ReferenceLatent": "nodes_edit_model",
    "TextEncodeQwenImageEdit": "nodes_qwen",
    "TextEncodeJoyImageEdit": "nodes_joyimage",
    "TextEncodeBooguEdit": "nodes_boogu",
    "TextEncodeMageFlowEdit": "nodes_mage",
}


def edit_faults(wires: Any, side: int, node: str) -> list[str]:
    """Return what is wrong with a family's control images; of others, what is not refused."""
    references = importlib.import_module(f"{NAME}.nodes.comfy.references")
    try:
        references.check(wires.model.model)
    except references.ReferencesError as error:
        return [str(error)] if node else []
    if not node:
        return []  # it takes them, as Flux.1 does, but was not made for them
    first, second = pixels(side)[:1], pixels(side)[1:, :, :, :side]
    faults = told_otherwise(
        wires, side, lambda denoiser: denoiser.encode_edit(CAPTIONS[0], [first]),
        _told_by_node(wires, node, first),
    )  # fmt: skip
    with torch.inference_mode(False), denoiser_of(wires) as denoiser:
        return faults + _effects(denoiser, side, first, second)


def _told_by_node(wires: Any, node: str, shown: torch.Tensor) -> Any:
    """Return the conditioning as a person's graph makes it."""
    kind = getattr(importlib.import_module(f"comfy_extras.{_MODULES[node]}"), node)
    image = (shown.movedim(1, -1) + 1) / 2
    if node == "ReferenceLatent":
        cond = wires.clip.encode_from_tokens_scheduled(wires.clip.tokenize(CAPTIONS[0]))
        return kind.execute(cond, {"samples": wires.vae.encode(image)}).result[0]
    if node == "TextEncodeQwenImageEdit":
        return kind.execute(wires.clip, CAPTIONS[0], wires.vae, image).result[0]
    named = {"image0" if node == "TextEncodeJoyImageEdit" else "image_1": image}
    further = {} if node == "TextEncodeJoyImageEdit" else {"negative_prompt": ""}
    found = kind.execute(wires.clip, CAPTIONS[0], vae=wires.vae, images=named, **further)
    return found.result[0]


def _effects(denoiser: Any, side: int, first: Any, second: Any) -> list[str]:
    """Predict a batch with two control images of other sizes, and a row without."""
    embeddings = importlib.import_module(f"{NAME}.core.training.denoisers.protocol").TextEmbeddings
    adapters = importlib.import_module(f"{NAME}.core.lora.adapters")
    with torch.no_grad():
        clean = denoiser.encode_pixels(pixels(side, 1), None)
        told = [denoiser.encode_edit(CAPTIONS[0], [shown]) for shown in (first, second)]
        told.append(denoiser.encode_text(CAPTIONS[:1]))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(17))
    times = denoiser.fixed_timesteps(1)
    noisy = denoiser.add_noise(clean, noise, times)
    size = [(side + 32, side)]
    settings = adapters.LoraSettings(rank=2, alpha=2.0, dropout=0.0, targets="full")
    made = adapters.inject({"denoiser": denoiser.module()}, settings, seed=1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1)
    text = embeddings.cat(told)
    together = denoiser.predict(noisy.repeat(3, *[1] * (noisy.dim() - 1)), times.repeat(3), text,
                                size * 3)  # fmt: skip
    alone = torch.cat([denoiser.predict(noisy, times, one, size) for one in told])
    faults = []
    if float((together - alone).norm() / alone.norm()) > 1e-5:
        faults.append("rows of a batch with control images see each other")
    if min(float((alone[n] - alone[-1]).norm() / alone[-1].norm()) for n in (0, 1)) < 1e-4:
        faults.append("a control image changes nothing")
    alone[0].square().mean().backward()
    idle = [
        path
        for path, parameter in made.named_parameters().items()
        if "ref_image_refiner" in path and (parameter.grad is None or not parameter.grad.any())
    ]
    made.remove()
    return faults + [f"{path} has no gradient" for path in idle]
