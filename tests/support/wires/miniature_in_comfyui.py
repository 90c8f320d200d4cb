"""Compares the miniature in ComfyUI with the miniature in diffusers, in a process of its own.

``python miniature_in_comfyui.py COMFYUI`` prints a JSON object: the largest difference a model.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys

from tests.support.comfyui.pack import NAME, import_pack, start_comfyui


def main(comfyui: str) -> None:
    start_comfyui(comfyui)
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(1)
    import_pack()
    models = importlib.import_module(f"{NAME}.nodes.comfy.miniature")
    folder = importlib.import_module(f"{NAME}.core.miniature").DIFFUSION_PATH
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    found = {}
    with torch.inference_mode():
        clip = models.load_clip(folder)
        text = "portrait of a woman, wavy red hair, blue hoodie, park background"
        ours = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]
        theirs = pipeline.encode_prompt(text, "cpu", 1, False)[0]
        found["text"] = difference(ours, theirs)

        patcher = models.load_model(folder)
        noisy = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        times = torch.tensor([981.0, 20.0])
        context = theirs.repeat(2, 1, 1)
        found["unet"] = difference(
            patcher.model.diffusion_model(noisy, times, context),
            pipeline.unet(noisy, times, context).sample,
        )
        if "force_deepcopy" in inspect.signature(patcher.clone).parameters:
            copy = patcher.clone(force_deepcopy=True).model.diffusion_model
            assert copy is not patcher.model.diffusion_model
            found["copy"] = difference(
                copy(noisy, times, context), patcher.model.diffusion_model(noisy, times, context)
            )
        betas = pipeline.scheduler.betas
        expected = ((1 - (1 - betas).cumprod(0)) / (1 - betas).cumprod(0)).sqrt()
        found["sigmas"] = difference(patcher.model.model_sampling.sigmas, expected)

        vae = models.load_vae(folder)
        image = torch.rand(1, 128, 96, 3, generator=torch.Generator().manual_seed(2))
        latents = vae.encode(image)
        pixels = image.movedim(-1, 1) * 2 - 1
        found["encoded"] = difference(latents, pipeline.vae.encode(pixels).latent_dist.mode())
        decoded = pipeline.vae.decode(latents).sample.movedim(1, -1)
        found["decoded"] = difference(vae.decode(latents), ((decoded + 1) / 2).clamp(0, 1))
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")


def difference(one, other):
    assert one.shape == other.shape, (one.shape, other.shape)
    return float((one - other).abs().max())


if __name__ == "__main__":
    main(sys.argv[1])
