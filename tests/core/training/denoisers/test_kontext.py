"""Flux.1 Kontext: the transformer is told of a control image as the pipeline tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from character_curator.training import LoraJob, SampleSettings, TrainingSettings, train_lora
from character_curator.training.denoisers.diffusers import UnknownModelError
from character_curator.training.denoisers.load import of_pipeline
from character_curator.training.denoisers.protocol import TextEmbeddings
from tests.support.lora_weights import pipeline_in
from tests.support.tiny_denoiser import draw_image, make_dataset


@pytest.fixture
def pipeline(tiny_flux):
    flux = pipeline_in(tiny_flux)
    return FluxKontextPipeline(**flux.components)


def image(width, height, seed):
    source = np.random.default_rng(seed)
    return Image.fromarray(source.integers(0, 256, (height, width, 3), dtype=np.uint8))


def as_pixels(shown):
    values = torch.from_numpy(np.array(shown)).permute(2, 0, 1)[None]
    return values.float() / 127.5 - 1


def heard(pipeline, shown):
    """What the transformer is told in the pipeline's first step, and says."""
    told = {}

    def hear(_, __, named, said):
        told.setdefault("told", {k: v for k, v in named.items() if torch.is_tensor(v)})
        told.setdefault("said", said[0])

    hook = pipeline.transformer.register_forward_hook(hear, with_kwargs=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline(
        image=shown, prompt="char1", height=64, width=48, num_inference_steps=1,
        guidance_scale=1.0, generator=torch.Generator().manual_seed(3), output_type="latent",
        max_area=64 * 48, _auto_resize=False,
    )  # fmt: skip
    hook.remove()
    return told["told"], told["said"]


def test_the_transformer_is_told_what_the_pipeline_tells_it(pipeline):
    shown = image(64, 96, 1)
    told, said = heard(pipeline, shown)
    denoiser = of_pipeline(pipeline, "kontext")
    with torch.no_grad():
        text = denoiser.encode_edit("char1", [as_pixels(shown)])
        own = told["hidden_states"][:, : 4 * 3]
        factor = pipeline.vae_scale_factor
        noisy = pipeline._unpack_latents(own, 64, 48, factor)
        trained = {}
        hook = pipeline.transformer.register_forward_pre_hook(
            lambda _, __, named: trained.update(named), with_kwargs=True
        )
        found = denoiser.predict(noisy, 1000 * told["timestep"], text, [(48, 64)])
        hook.remove()
    for name, value in told.items():
        assert torch.allclose(trained[name].float(), value.float(), atol=1e-5), name
    expected = pipeline._unpack_latents(said[:, : 4 * 3], 64, 48, factor)
    assert torch.allclose(found, expected, atol=1e-5)


def test_rows_with_control_images_of_several_sizes_or_none_do_not_see_each_other(pipeline):
    denoiser = of_pipeline(pipeline, "kontext")
    with torch.no_grad():
        rows = [
            denoiser.encode_edit("char1", [as_pixels(image(64, 96, 1))]),
            denoiser.encode_edit("char1", [as_pixels(image(48, 64, 2))]),
            denoiser.encode_text(["char1"]),
        ]
        source = torch.Generator().manual_seed(4)
        noisy = torch.randn(3, 4, 8, 6, generator=source)
        times = torch.tensor([300.0, 300.0, 300.0])
        together = denoiser.predict(noisy, times, TextEmbeddings.cat(rows), [(48, 64)] * 3)
        for n, row in enumerate(rows):
            alone = denoiser.predict(noisy[n : n + 1], times[:1], row, [(48, 64)])
            assert torch.allclose(together[n : n + 1], alone, atol=1e-5)
        plain = denoiser.predict(noisy[:1], times[:1], rows[2], [(48, 64)])
    assert not torch.allclose(together[:1], plain, atol=1e-4)


def test_a_pipeline_without_control_images_says_so(tiny_flux, pipeline):
    with pytest.raises(UnknownModelError, match="FluxKontextPipeline"):
        of_pipeline(pipeline_in(tiny_flux), "flux").encode_edit("char1", [])
    with pytest.raises(UnknownModelError, match="one control image"):
        of_pipeline(pipeline, "kontext").encode_edit("char1", [None, None])


def test_a_lora_is_trained_with_pairs(pipeline, tmp_path: Path):
    dataset = make_dataset(tmp_path / "images", 3)
    controls = tmp_path / "controls"
    controls.mkdir()
    for number in range(3):
        draw_image(controls / f"p{number}.png", 30 + number, (64, 64))
    settings = TrainingSettings(
        rank=2, steps=2, resolution=64, bucket_step=16, validation_share=0.3, batch_size=2,
        validation_timesteps=2, caption_dropout=0.5,
    )  # fmt: skip
    losses = []
    for given in (controls, None):
        job = LoraJob(
            dataset, tmp_path / f"{len(losses)}.safetensors", control_images=given,
            samples=SampleSettings(("char1",), steps=1),
        )  # fmt: skip
        result = train_lora(job, settings, denoiser=of_pipeline(pipeline, "kontext"))
        losses.append(result.by_validation.validation_loss)
    assert losses[0] != losses[1]
