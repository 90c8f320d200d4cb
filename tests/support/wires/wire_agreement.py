"""Compares the miniature on ComfyUI's wires with the miniature in diffusers, as denoisers.

Imported by ``wire_training.py``, in a process that has ComfyUI's modules.
"""

from __future__ import annotations

import importlib

from tests.support.comfyui.pack import NAME

CAPTIONS = ["portrait of char1 woman, blue hoodie, park background", "a person"]
SIZES = [(128, 128), (128, 128)]


def compare():
    """Return relative differences, and whether what is drawn at random is the same."""
    import torch

    core = importlib.import_module(f"{NAME}.core.training.denoisers.load")
    denoisers = importlib.import_module(f"{NAME}.nodes.comfy.denoiser")
    models = importlib.import_module(f"{NAME}.nodes.comfy.miniature")
    folder = importlib.import_module(f"{NAME}.core.miniature").DIFFUSION_PATH
    wires = models.load_model(folder), models.load_clip(folder), models.load_vae(folder)
    with torch.inference_mode(False), denoisers.WireDenoiser(*wires) as wire:
        return _compared(wire, core.load("miniature", device="cpu"))


def _compared(wire, pipeline):
    import torch

    source = torch.Generator().manual_seed(1)
    pixels = torch.rand(2, 3, 128, 128, generator=source) * 2 - 1
    noise = torch.randn(2, 4, 16, 16, generator=source)
    times = torch.tensor([940, 60])
    both = (wire, pipeline)
    with torch.no_grad():
        latents = [denoiser.encode_pixels(pixels, None) for denoiser in both]
        texts = [denoiser.encode_text(CAPTIONS) for denoiser in both]
        clean = latents[0]
        predictions = [
            denoiser.predict(denoiser.add_noise(clean, noise, times), times, text, SIZES)
            for denoiser, text in zip(both, texts, strict=True)
        ]
        targets = [denoiser.target(clean, noise, times) for denoiser in both]
    losses = [(p - t).square().mean() for p, t in zip(predictions, targets, strict=True)]
    drawn = [d.sample_timesteps(50, torch.Generator().manual_seed(2)) for d in both]
    gradients = _gradients(both, texts, clean, noise, times)
    return {
        "latents": _difference(*latents),
        "text": _difference(texts[0]["cond"], texts[1]["prompt_embeds"]),
        "prediction": _difference(*predictions),
        "loss": _difference(*losses),
        "snr": _difference(*(denoiser.snr(times) for denoiser in both)),
        "gradient": max(_difference(one, gradients[1][name]) for name, one in gradients[0].items()),
        "layers": [len(found) for found in gradients],
        "same_draws": bool(torch.equal(*drawn)),
        "same_fixed": bool(torch.equal(*(denoiser.fixed_timesteps(8) for denoiser in both))),
        "same_facts": all(
            getattr(wire, name) == getattr(pipeline, name)
            for name in ("prediction", "architecture", "pixel_step")
        ),
    }  # fmt: skip


def _gradients(both, texts, clean, noise, times):
    """Return the gradients of the same adapters on both models, by the file's names."""
    import torch

    inject = importlib.import_module(f"{NAME}.core.lora.adapters").inject
    lora = importlib.import_module(f"{NAME}.core.lora.adapters").LoraSettings
    checkpoint = importlib.import_module(f"{NAME}.core.lora.file")
    settings = lora(rank=2, alpha=2.0, dropout=0.0, targets="full")
    source = torch.Generator().manual_seed(4)
    file = None
    found = []
    for denoiser, text in zip(both, texts, strict=True):
        adapters = inject({"denoiser": denoiser.module()}, settings)
        if file is None:
            for parameter in adapters.parameters():
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=source)
            tensors = checkpoint.tensors_of(adapters, denoiser.file_key)
            file = checkpoint.LoraFile(tensors, {})
        else:
            checkpoint.restore(adapters, file, denoiser.file_key)
        noisy = denoiser.add_noise(clean, noise, times)
        predicted = denoiser.predict(noisy, times, text, SIZES)
        (predicted - denoiser.target(clean, noise, times)).square().mean().backward()
        found.append(
            {
                f"{denoiser.file_key(part, path)}.{end}": getattr(layer, end)["default"].weight.grad
                for part, path, layer in adapters.layers()
                for end in ("lora_A", "lora_B")
            }
        )
        adapters.remove()
    return found


def _difference(one, other):
    assert one.shape == other.shape, (one.shape, other.shape)
    return float((one - other).norm() / other.norm())
