"""Families trained by flow matching: told what their pipelines tell them, targets, LoRA files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from character_curator.lora import file as lora_file
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.training.denoisers.load import load, of_pipeline
from character_curator.training.denoisers.protocol import TextEmbeddings
from tests.support.lora_weights import pipeline_in, shake
from tests.support.tiny_flows import FLOWS

CAPTIONS = ["char1 woman", "char1 woman, from the side, smiling"]
ARCHITECTURES = {
    "tiny_sd3": "stable-diffusion-3-5-medium",
    "tiny_chroma": "chroma",
    "tiny_qwen_image": "qwen-image",
    "tiny_z_image": "z-image",
    "tiny_flux2": "flux-2-dev",
    "tiny_flux2_klein": "flux-2-klein-4b",
}
UNREAD = {
    "tiny_sd3": ("attn.add_q_proj",),
    "tiny_qwen_image": ("attn.add_q_proj", "attn.to_add_out", "txt_mlp"),
}
"""Layers of the last block whose output nobody reads: they are not trained."""
SILENT = ("return_dict", "joint_attention_kwargs", "attention_kwargs")
"""Arguments that hold nothing in training and sampling alike."""


@pytest.fixture(params=FLOWS)
def family(request):
    return request.param


@pytest.fixture
def pipeline(family, request):
    pipeline = pipeline_in(request.getfixturevalue(family))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def denoiser(pipeline):
    return of_pipeline(pipeline)


def pixels(n=2, height=64, width=48):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(n, 3, height, width, generator=generator) - 1


def noisy_batch(denoiser, n=2):
    latents = denoiser.encode_pixels(pixels(n), None)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([300.0, 800.0])[:n]
    return latents, noise, timesteps, denoiser.add_noise(latents, noise, timesteps)


def cached_text(denoiser, captions):
    """Embeddings as training has them: of one caption at a time, joined to a batch."""
    with torch.no_grad():
        return TextEmbeddings.cat([denoiser.encode_text([caption]) for caption in captions])


def listen(module):
    """Return a list that what the module is told, and what it says, is added to."""
    heard = []

    def hook(_, args, kwargs, output):
        names = ("x", "t", "cap_feats")  # Z-Image's pipeline gives these by their place
        told = dict(zip(names, args, strict=False)) | kwargs
        told = {k: v for k, v in told.items() if k not in SILENT and v is not None}
        heard.append((told, output[0]))

    module.register_forward_hook(hook, with_kwargs=True)
    return heard


def assert_same(got, expected, where=""):
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype, where
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6, msg=lambda m: f"{where}: {m}")
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys(), where
        for name in expected:
            assert_same(got[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected), where
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    else:
        assert got == expected, where


def test_the_transformer_is_told_what_its_pipeline_tells_it(family, pipeline, denoiser):
    """Both prompts in one batch, of unequal length: masks, positions, packing and time."""
    heard = listen(denoiser.module())
    unguided = {"true_cfg_scale": 1.0} if "qwen" in family else {"guidance_scale": 1.0}
    if family == "tiny_z_image":
        unguided = {"guidance_scale": 0.0}
    factor = pipeline.vae_scale_factor
    cell = 2 * factor if "flux2" in family else factor
    channels = denoiser.encode_pixels(pixels(1), None).shape[1]
    noise = torch.randn(
        2, channels, 64 // cell, 64 // cell, generator=torch.Generator().manual_seed(3)
    )
    shown = noise
    if family in ("tiny_chroma", "tiny_qwen_image"):
        shown = pipeline._pack_latents(noise, *noise.shape)
    after = {}
    pipeline(
        prompt=list(CAPTIONS), height=64, width=64, num_inference_steps=1, latents=shown,
        output_type="latent", callback_on_step_end=lambda *given: after.update(given[3]) or {},
        **unguided,
    )  # fmt: skip
    told, said = heard[0]
    heard.clear()
    time = pipeline.scheduler.timesteps[:1].expand(2)
    with torch.no_grad():
        text = cached_text(denoiser, CAPTIONS)
        predicted = denoiser.predict(noise, time, text, [(64, 64)] * 2)
    assert_same(heard[0][0], told, family)
    assert_same(heard[0][1], said, "prediction")
    # One step of Euler's method with the prediction ends where the pipeline's does.
    step = float(pipeline.scheduler.sigmas[1] - pipeline.scheduler.sigmas[0])
    expected = noise + step * predicted
    if family in ("tiny_chroma", "tiny_qwen_image"):
        expected = pipeline._pack_latents(expected, *expected.shape)
    elif "flux2" in family:
        expected = pipeline._pack_latents(expected)
    torch.testing.assert_close(after["latents"], expected, rtol=0, atol=1e-5)


def test_decoding_what_is_encoded_is_what_the_pipeline_decodes(family, pipeline, denoiser):
    """The pipeline decodes our latents to what the autoencoder decodes its own to."""
    seen = pixels(1, 64, 64)
    latents = denoiser.encode_pixels(seen, None)
    vae = pipeline.vae
    with torch.no_grad():
        frames = seen.unsqueeze(2) if "qwen" in family else seen
        expected = vae.decode(vae.encode(frames).latent_dist.mode()).sample
    shown = latents
    if family in ("tiny_chroma", "tiny_qwen_image"):
        shown = pipeline._pack_latents(latents, *latents.shape)

    def unmoved(_, __, ___, values):
        return {"latents": start[0]}

    start = [shown if "flux2" not in family else pipeline._pack_latents(latents)]
    unguided = {} if "qwen" in family else {"guidance_scale": 0.0}
    image = pipeline(
        prompt=CAPTIONS[0], height=64, width=64, num_inference_steps=1, latents=shown,
        output_type="pt", callback_on_step_end=unmoved, **unguided,
    ).images  # fmt: skip
    expected = expected.squeeze(2) if "qwen" in family else expected
    torch.testing.assert_close(
        torch.as_tensor(image), (expected / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4
    )
    assert latents.dtype == torch.float32


def test_draws_of_the_encoder_follow_their_generator(denoiser):
    draws = [
        denoiser.encode_pixels(pixels(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_path_is_straight_and_its_target_leads_back(denoiser):
    latents, noise, timesteps, noisy = noisy_batch(denoiser)
    sigma = (timesteps / 1000).view(-1, 1, 1, 1)
    target = denoiser.target(latents, noise, timesteps)
    torch.testing.assert_close(noisy - sigma * target, latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(noisy + (1 - sigma) * target, noise, rtol=0, atol=1e-5)
    assert denoiser.prediction == "flow"
    assert denoiser.snr(timesteps) is None


def test_rows_do_not_depend_on_their_neighbours(denoiser):
    _, _, timesteps, noisy = noisy_batch(denoiser)
    text = cached_text(denoiser, CAPTIONS)
    size = [(48, 64)]
    with torch.no_grad():
        both = denoiser.predict(noisy, timesteps, text, [(48, 64)] * 2)
        alone = [
            denoiser.predict(noisy[[i]], timesteps[[i]], cached_text(denoiser, [caption]), size)
            for i, caption in enumerate(CAPTIONS)
        ]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)
    with torch.no_grad():
        swapped = denoiser.predict(noisy, timesteps, text.index([1, 0]), 2 * size)
    assert (both - swapped).abs().max() > 1e-5


def test_gradients_are_those_of_finite_differences_and_reach_the_adapters_alone(family, denoiser):
    adapters = inject(
        {"denoiser": denoiser.module()}, LoraSettings(rank=2, targets="full", dropout=0.0)
    )
    shake(adapters)
    latents, noise, timesteps, noisy = noisy_batch(denoiser)
    text = cached_text(denoiser, CAPTIONS)
    target = denoiser.target(latents, noise, timesteps)

    def loss():
        predicted = denoiser.predict(noisy, timesteps, text, [(48, 64)] * 2)
        return (predicted - target).square().mean()

    loss().backward()
    named = adapters.named_parameters()
    gradients = {name: p.grad for name, p in named.items()}
    unread = {
        name for name, gradient in gradients.items() if gradient is None or not gradient.any()
    }
    # Nothing reads what the last block makes of the text.
    last = tuple(f"denoiser.transformer_blocks.1.{path}" for path in UNREAD.get(family, ()))
    assert unread == {name for name in named if last and name.startswith(last)}
    named = {name: p for name, p in named.items() if name not in unread}
    assert all(torch.isfinite(gradients[name]).all() for name in named)
    assert all(
        parameter.grad is None
        for part in (denoiser.module(), denoiser.pipeline.vae, denoiser.pipeline.text_encoder)
        for name, parameter in part.named_parameters()
        if "lora" not in name
    )
    direction = {
        name: torch.randn(p.shape, generator=torch.Generator().manual_seed(7))
        for name, p in named.items()
    }
    slope = sum((gradients[name] * direction[name]).sum().item() for name in named)
    step, losses = 2e-3, []
    for sign in (1, -1):
        with torch.no_grad():
            for name, p in named.items():
                p.add_(sign * step * direction[name])
            losses.append(loss().double().item())
            for name, p in named.items():
                p.sub_(sign * step * direction[name])
    assert np.isclose((losses[0] - losses[1]) / (2 * step), slope, rtol=0.05)


@pytest.mark.parametrize("dora", [False, True])
def test_the_file_loads_in_the_pipeline_and_predicts_as_trained(
    family, denoiser, request, tmp_path, dora
):
    from character_curator.generation.pipelines import add_lora

    settings = LoraSettings(rank=4, alpha=3, targets="full", dora=dora)
    adapters = inject({"denoiser": denoiser.module()}, settings)
    shake(adapters)
    denoiser.module().eval()
    _, _, timesteps, noisy = noisy_batch(denoiser)
    text = cached_text(denoiser, CAPTIONS)
    with torch.no_grad():
        expected = denoiser.predict(noisy, timesteps, text, [(48, 64)] * 2)
    path = tmp_path / "lora.safetensors"
    lora_file.write(path, lora_file.tensors_of(adapters, denoiser.file_names()), {})
    fresh = of_pipeline(pipeline_in(request.getfixturevalue(family)))
    with torch.no_grad():
        plain = fresh.predict(noisy, timesteps, text, [(48, 64)] * 2)
        if dora:
            add_lora(fresh.pipeline, path, "char1")
        else:  # as everybody does it
            fresh.pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
        loaded = fresh.predict(noisy, timesteps, text, [(48, 64)] * 2)
    assert (plain - expected).abs().max() > 1e-3
    torch.testing.assert_close(loaded, expected, rtol=0, atol=2e-5)
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = sum(isinstance(m, BaseTunerLayer) for m in fresh.module().modules())
    assert adapted == len(adapters.placements["denoiser"].paths)


def test_half_precision_gives_float32_predictions_near_the_exact_ones(family, denoiser, request):
    half = load(request.getfixturevalue(family), device="cpu", dtype="bfloat16")
    inject({"denoiser": half.module()}, LoraSettings())  # float32 adapters do not change the type
    half.module().eval()
    _, _, timesteps, noisy = noisy_batch(denoiser)
    text = cached_text(denoiser, CAPTIONS)
    with torch.no_grad():
        exact = denoiser.predict(noisy, timesteps, text, [(48, 64)] * 2)
        rounded = half.predict(noisy, timesteps, text, [(48, 64)] * 2)
        latents = half.encode_pixels(pixels(), None)
        own = half.encode_text(CAPTIONS)
    assert rounded.dtype == latents.dtype == torch.float32
    assert own.tensors.keys() == text.tensors.keys()
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_facts_of_the_family(family, denoiser):
    assert denoiser.architecture == ARCHITECTURES[family]
    assert denoiser.pixel_step == 16
    assert list(denoiser.text_modules()) == (["te1", "te2"] if family == "tiny_sd3" else [])
