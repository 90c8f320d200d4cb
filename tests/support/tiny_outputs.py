"""What the tiny models give for fixed inputs, and how far apart two outputs are."""

from __future__ import annotations

import torch


def unet_inputs(context=32, **more):
    """Return what a UNet of four latent channels is run on."""
    generator = torch.Generator().manual_seed(3)
    return {
        "noisy": torch.randn(2, 4, 16, 16, generator=generator),
        "timesteps": torch.tensor([100.0, 700.0]),
        "context": torch.randn(2, 7, context, generator=generator),
        **more,
    }


def run_unet(unet, x):
    """Return what a UNet predicts; ``y`` among the inputs says that it is SDXL's."""
    added = {"text_embeds": x["text_embeds"], "time_ids": x["time_ids"]} if "y" in x else None
    return unet(
        x["noisy"], x["timesteps"], encoder_hidden_states=x["context"], added_cond_kwargs=added
    ).sample


def sdxl_inputs(unet):
    """Return what SDXL's UNet is run on: ``y`` is what ComfyUI's own takes."""
    time_ids = torch.tensor([[128.0, 96, 0, 0, 128, 128], [64, 64, 0, 0, 128, 128]])
    pooled = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))
    sizes = unet.add_time_proj(time_ids.flatten()).reshape(2, -1)
    y = torch.cat([pooled, sizes], dim=1)
    return unet_inputs(64, text_embeds=pooled, time_ids=time_ids, y=y)


def flux_inputs():
    """Return what the flow transformer is run on."""
    generator = torch.Generator().manual_seed(5)
    return {
        "noisy": torch.randn(2, 4, 8, 8, generator=generator),
        "timesteps": torch.tensor([100.0, 700.0]),
        "context": torch.randn(2, 7, 32, generator=generator),
        "y": torch.randn(2, 32, generator=generator),
        "guidance": torch.tensor([1.0, 3.5]),
    }


def run_flux(transformer, x):
    """Return what the flow transformer predicts, as latents."""
    from diffusers import FluxPipeline

    packed = FluxPipeline._pack_latents(x["noisy"], 2, 4, 8, 8)
    sample = transformer(
        hidden_states=packed,
        timestep=x["timesteps"] / 1000,
        guidance=x["guidance"],
        pooled_projections=x["y"],
        encoder_hidden_states=x["context"],
        txt_ids=torch.zeros(7, 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32),
    ).sample
    return FluxPipeline._unpack_latents(sample, 64, 64, 8)


def run_clip(encoder, x):
    """Return what a text encoder gives."""
    return encoder(x["tokens"]).last_hidden_state


def outputs(pipeline):
    """What the parts that carry adapters give."""
    tokens = torch.arange(20, 27).repeat(2, 1)
    result = []
    with torch.no_grad():
        if hasattr(pipeline, "transformer"):
            result.append(run_flux(pipeline.transformer, flux_inputs()))
        elif hasattr(pipeline, "text_encoder_2"):
            result.append(run_unet(pipeline.unet, sdxl_inputs(pipeline.unet)))
            result.append(pipeline.text_encoder_2(tokens).last_hidden_state)
        else:
            result.append(run_unet(pipeline.unet, unet_inputs()))
        result.append(run_clip(pipeline.text_encoder, {"tokens": tokens}))
    return result


def distance(got, expected):
    """Largest difference, relative to the largest value."""
    return ((got - expected).abs().max() / expected.abs().max()).item()
