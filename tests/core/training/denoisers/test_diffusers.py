"""Pipelines of diffusers as denoisers, against diffusers' own schedulers and pipelines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from character_curator.lora.adapters import LoraSettings, inject
from character_curator.training.denoisers.diffusers import UnknownModelError
from character_curator.training.denoisers.load import load, of_pipeline
from character_curator.training.denoisers.protocol import TextEmbeddings
from tests.support.lora_weights import pipeline_in, shake

FAMILIES = ["tiny_sd15", "tiny_sdxl", "tiny_flux"]
CAPTIONS = ["char1 woman", "char1 woman, from the side, smiling"]


def denoiser_in(folder):
    return of_pipeline(pipeline_in(folder))


@pytest.fixture(params=FAMILIES)
def denoiser(request):
    return denoiser_in(request.getfixturevalue(request.param))


@pytest.fixture
def sd15(tiny_sd15):
    return denoiser_in(tiny_sd15)


def pixels(n=2, height=64, width=48):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(n, 3, height, width, generator=generator) - 1


def batch(denoiser, n=2):
    """Latents, noise and timesteps."""
    latents = denoiser.encode_pixels(pixels(n), None)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(latents.shape, generator=generator)
    return latents, noise, denoiser.sample_timesteps(n, generator)


def predict(denoiser, captions, sizes=((96, 128), (48, 64))):
    latents, noise, timesteps = batch(denoiser)
    noisy = denoiser.add_noise(latents, noise, timesteps)
    return denoiser.predict(noisy, timesteps, denoiser.encode_text(captions), sizes)


def test_a_step_of_training_reaches_the_adapters_alone(denoiser):
    adapters = inject({"denoiser": denoiser.module()}, LoraSettings())
    frozen = {k: v.clone() for k, v in denoiser.module().state_dict().items() if "lora" not in k}
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=1e-2)
    latents, noise, timesteps = batch(denoiser)
    with torch.no_grad():
        text = denoiser.encode_text(CAPTIONS)
    losses = []
    for _ in range(8):
        noisy = denoiser.add_noise(latents, noise, timesteps)
        prediction = denoiser.predict(noisy, timesteps, text, [(48, 64)] * 2)
        target = denoiser.target(latents, noise, timesteps)
        assert prediction.shape == target.shape == latents.shape
        loss = (prediction - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = denoiser.module().state_dict()
    assert all(torch.equal(after[k], v) for k, v in frozen.items())
    everything = [*denoiser.pipeline.vae.parameters(), *denoiser.pipeline.text_encoder.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in everything)


def test_the_caption_matters(denoiser):
    with torch.no_grad():
        one, other = predict(denoiser, CAPTIONS), predict(denoiser, CAPTIONS[::-1])
    assert (one - other).abs().max() > 1e-4


def test_a_row_does_not_depend_on_its_neighbour(denoiser):
    latents, noise, timesteps = batch(denoiser)
    noisy = denoiser.add_noise(latents, noise, timesteps)
    sizes = [(96, 128), (48, 64)]
    with torch.no_grad():
        text = denoiser.encode_text(CAPTIONS)
        both = denoiser.predict(noisy, timesteps, text, sizes)
        alone = denoiser.predict(noisy[1:], timesteps[1:], text.index([1]), sizes[1:])
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_latents_are_those_that_the_pipeline_decodes(denoiser):
    vae = denoiser.pipeline.vae
    seen = pixels()
    latents = denoiser.encode_pixels(seen, None)
    expected = vae.encode(seen).latent_dist.mean
    back = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
    assert latents.dtype == torch.float32
    assert torch.allclose(back, expected, atol=1e-5)
    # pixels in [0, 1] would be something else
    assert not torch.allclose(denoiser.encode_pixels((seen + 1) / 2, None), latents, atol=1e-2)


def test_draws_of_the_encoder_follow_their_generator(denoiser):
    draws = [
        denoiser.encode_pixels(pixels(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_timesteps_come_from_the_generator_and_the_fixed_ones_are_its_quantiles(denoiser):
    drawn = [
        denoiser.sample_timesteps(20_000, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    fixed = denoiser.fixed_timesteps(4).double()
    measured = np.quantile(drawn[0].double().numpy(), [0.125, 0.375, 0.625, 0.875])
    assert np.allclose(fixed.numpy(), measured, atol=12)
    assert torch.equal(denoiser.fixed_timesteps(4), denoiser.fixed_timesteps(4))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_the_scheduler(tiny_sd15, prediction):
    pipeline = pipeline_in(tiny_sd15)
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type=prediction
    )
    denoiser = of_pipeline(pipeline)
    reference = DDPMScheduler.from_config(pipeline.scheduler.config)
    latents, noise, _ = batch(denoiser)
    timesteps = torch.tensor([3, 950])
    expected = reference.add_noise(latents, noise, timesteps)
    assert denoiser.prediction == prediction
    assert torch.allclose(denoiser.add_noise(latents, noise, timesteps), expected, atol=1e-6)
    velocity = reference.get_velocity(latents, noise, timesteps)
    wanted = noise if prediction == "epsilon" else velocity
    assert torch.allclose(denoiser.target(latents, noise, timesteps), wanted, atol=1e-6)
    signal = reference.alphas_cumprod[timesteps]
    assert torch.allclose(denoiser.snr(timesteps), signal / (1 - signal))


def test_a_flow_goes_straight_from_image_to_noise(tiny_flux):
    denoiser = denoiser_in(tiny_flux)
    latents, noise, _ = batch(denoiser)
    ends = torch.tensor([0.0, 1000.0])
    noisy = denoiser.add_noise(latents, noise, ends)
    assert torch.allclose(noisy[0], latents[0])
    assert torch.allclose(noisy[1], noise[1])
    # One Euler step over the whole path, along the target, ends at the image.
    start = denoiser.add_noise(latents, noise, torch.full((2,), 700.0))
    assert torch.allclose(start - 0.7 * denoiser.target(latents, noise, ends), latents, atol=1e-5)
    assert denoiser.snr(ends) is None
    assert denoiser.prediction == "flow"


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_those_that_the_pipeline_samples_with(family, request):
    """The model's inputs, caught while the pipeline samples, give the same output here."""
    folder = request.getfixturevalue(family)
    pipeline = pipeline_in(folder)
    pipeline.set_progress_bar_config(disable=True)
    denoiser = of_pipeline(pipeline)
    caught = {}

    def catch(_module, args, kwargs, output):
        caught.update(kwargs, output=output[0], args=args)

    hook = denoiser.module().register_forward_hook(catch, with_kwargs=True)
    # No guidance: one row. Flux is told the guidance that training tells it.
    pipeline(
        CAPTIONS[0], height=64, width=64, num_inference_steps=1, guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    )  # fmt: skip
    hook.remove()
    flux = family == "tiny_flux"
    seen = caught["hidden_states"] if flux else caught["args"][0]
    expected = caught["output"]
    if flux:
        seen, expected = (pipeline._unpack_latents(x, 64, 64, 8) for x in (seen, expected))
    timestep = caught["timestep"] * 1000 if flux else caught["args"][1].reshape(1)
    with torch.no_grad():
        text = denoiser.encode_text(CAPTIONS[:1])
        got = denoiser.predict(seen, timestep, text, [(64, 64)])
    assert torch.allclose(got, expected, atol=1e-5)


def test_sdxl_is_told_the_size(tiny_sdxl):
    denoiser = denoiser_in(tiny_sdxl)
    told = []
    denoiser.module().register_forward_pre_hook(
        lambda _, __, kwargs: told.append(kwargs["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    with torch.no_grad():
        predict(denoiser, CAPTIONS, sizes=[(96, 128), (48, 64)])
    # height before width: original, corner of the crop, target
    assert told[0].tolist() == [[128, 96, 0, 0, 64, 48], [64, 48, 0, 0, 64, 48]]


def test_gradients_reach_the_text_encoders(denoiser):
    modules = {"denoiser": denoiser.module(), **denoiser.text_modules()}
    adapters = inject(modules, LoraSettings(text_encoder=True))
    shake(adapters)
    predict(denoiser, CAPTIONS).square().mean().backward()
    for part in denoiser.text_modules():
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in adapters.parameters(part))


def test_the_identity_is_that_of_the_weights_and_their_type(tiny_sd15, tiny_sdxl):
    one = load(tiny_sd15, device="cpu").identity
    assert one == load(tiny_sd15, device="cpu").identity
    others = [
        load(tiny_sd15, device="cpu", dtype="bfloat16").identity,
        load(tiny_sdxl, device="cpu").identity,
    ]
    pipeline = pipeline_in(tiny_sd15)
    hashed = of_pipeline(pipeline).identity
    same = pipeline_in(tiny_sd15)
    assert of_pipeline(same).identity == hashed
    with torch.no_grad():
        next(iter(same.unet.parameters())).add_(1e-3)
    others += [hashed, of_pipeline(same).identity]
    assert len({one, *others}) == 5


def test_half_precision_gives_float32_predictions_near_the_exact_ones(tiny_sd15, sd15):
    half = load(tiny_sd15, device="cpu", dtype="bfloat16")
    inject({"denoiser": half.module()}, LoraSettings())  # float32 adapters do not change the type
    with torch.no_grad():
        exact, rounded = predict(sd15, CAPTIONS), predict(half, CAPTIONS)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_facts_of_the_families(tiny_sd15, tiny_sdxl, tiny_flux):
    kinds = [denoiser_in(f) for f in (tiny_sd15, tiny_sdxl, tiny_flux)]
    assert [d.architecture for d in kinds] == [
        "stable-diffusion-v1", "stable-diffusion-xl-v1-base", "flux-1-dev",
    ]  # fmt: skip
    assert [list(d.text_modules()) for d in kinds] == [["te1"], ["te1", "te2"], ["te1"]]
    assert [d.pixel_step for d in kinds] == [16, 16, 16]
    layer = "encoder.layers.0.mlp.fc1"
    assert [d.file_key("te1", layer) for d in kinds] == [
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    ]


def test_a_pipeline_of_another_kind_is_refused(sd15):
    class KandinskyPipeline:
        unet = sd15.module()

    with pytest.raises(UnknownModelError, match="KandinskyPipeline"):
        of_pipeline(KandinskyPipeline())


def test_text_embeddings_are_indexed_joined_and_moved():
    text = TextEmbeddings({"a": torch.arange(6.0).reshape(3, 2), "b": torch.arange(3)})
    chosen = text.index([2, 0])
    assert len(text) == 3
    assert chosen["a"].tolist() == [[4, 5], [0, 1]]
    assert chosen["b"].tolist() == [2, 0]
    assert TextEmbeddings.cat([chosen, text])["b"].tolist() == [2, 0, 0, 1, 2]
    moved = text.to(dtype=torch.bfloat16)
    assert (moved["a"].dtype, moved["b"].dtype) == (torch.bfloat16, torch.int64)
    assert math.isclose(float(moved["a"][1, 1]), 3)


def test_a_schedule_that_ends_without_signal_is_trained_as_the_model_has_it(tiny_sd15):
    from diffusers import DDIMScheduler, DiffusionPipeline

    from character_curator.training.loop.objective import min_snr_weights

    pipeline = DiffusionPipeline.from_pretrained(tiny_sd15)
    plain = of_pipeline(pipeline)
    last = torch.tensor([999])
    assert float(plain.snr(last)) > 1e-3
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    denoiser = of_pipeline(pipeline)
    assert denoiser.prediction == "v_prediction"
    assert float(denoiser.snr(last)) < 1e-6
    assert float(min_snr_weights(denoiser.snr(last), 5.0, "v_prediction")) < 1e-6
    latents, noise = torch.ones(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    assert torch.allclose(denoiser.add_noise(latents, noise, last), noise, atol=1e-3)
    assert torch.allclose(denoiser.target(latents, noise, last), -latents, atol=1e-3)
