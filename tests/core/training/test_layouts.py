"""Every family of models, from a folder of images to an image that its LoRA file has changed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.imageset import content_hash
from character_curator.lora import file as lora_file
from character_curator.plan import Request
from character_curator.training import LoraJob, TrainingSettings, train_lora
from character_curator.training.finished import train_once
from character_curator.training.loop.state import StateMismatchError
from tests.support.single_files import save_single_file
from tests.support.tiny_denoiser import draw_image
from tests.support.tiny_flows import FLOWS
from tests.support.tiny_models import save_sdxl
from tests.support.watchers import CancelAfter, Cancelled

SETTINGS = TrainingSettings(
    rank=2, alpha=2.0, steps=3, batch_size=2, learning_rate=1e-2, resolution=64, bucket_step=16,
    validation_share=0.3, validation_timesteps=1,
)  # fmt: skip
REQUEST = Request("a", 1, "scenario", 1, 1, "", "", "char1 smiling", "", "", 7)


def write_dataset(folder, side=64):
    folder.mkdir()
    for number in range(5):
        draw_image(folder / f"{number}.png", number, (side, side))
        (folder / f"{number}.txt").write_text(f"portrait of char1 woman, scene {number}")
    return folder


KINDS = {
    "tiny_sd15": {},
    "tiny_sdxl": {},
    "tiny_flux": {},
    **{family: {} for family in FLOWS},
    "tiny_sd15, lokr": {"adapter": "lokr", "lokr_factor": 4, "rank": 1, "targets": "full"},
    "tiny_sdxl, loha": {"adapter": "loha", "train_text_encoder": True, "ema_decay": 0.5},
    "tiny_flux, lokr": {"adapter": "lokr", "lokr_decompose_both": True, "precision": "bf16"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_trains_saves_loads_back_and_changes_the_image(kind, request, tmp_path):
    model = request.getfixturevalue(kind.partition(",")[0])
    settings = SETTINGS.replace(**KINDS[kind])
    dataset = write_dataset(tmp_path / "set")
    job = LoraJob(dataset, tmp_path / "a.safetensors", base=model, samples=None, device="cpu")
    result = train_lora(job, settings)
    assert result.training.steps == 3
    assert lora_file.read(job.output).kind == settings.adapter

    def image(*loras):
        size = {"steps": 2, "width": 64, "height": 64, "device": "cpu"}
        return DiffusersBackend(model, loras=list(loras), **size).sample([REQUEST])

    plain = image()
    assert not np.array_equal(image((job.output, 1.0)), plain)
    assert np.array_equal(image((job.output, 0.0)), plain)  # the model itself is as it was

    # The file's weights are those that a training from it starts with.
    again = replace(job, output=tmp_path / "b.safetensors", start=job.output)
    # Rank, alpha and kind follow the file.
    other = SETTINGS.replace(**{**KINDS[kind], "adapter": "lora", "rank": 5, "alpha": 1.0})
    result = train_lora(again, other.replace(steps=1, learning_rate=1e-12, targets="attention"))
    assert "Goes on from a.safetensors" in result.adapted
    says = lora_file.read(again.output).metadata
    origin = {"file": "a.safetensors", "sha256": content_hash(job.output)}
    assert json.loads(says["character_curator.continued_from"]) == origin
    own = json.loads(says["character_curator.settings"])
    assert own.get("adapter", "lora") == settings.adapter
    first, second = lora_file.read(job.output).tensors, lora_file.read(again.output).tensors
    assert first.keys() == second.keys()
    assert any(
        value.abs().max() > 0
        for name, value in first.items()
        if any(end in name for end in ("up", "B", "lokr_w2", "hada_w2_b"))
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-8)


def test_text_encoders_that_take_no_adapters_are_said(tiny_chroma, tmp_path):
    dataset = write_dataset(tmp_path / "set")
    job = LoraJob(dataset, tmp_path / "a.safetensors", base=tiny_chroma, samples=None, device="cpu")
    result = train_lora(job, SETTINGS.replace(steps=1, train_text_encoder=True))
    assert [text for text in result.warnings if "train_text_encoder had no effect" in text]
    result = train_lora(replace(job, output=tmp_path / "b.safetensors"), SETTINGS.replace(steps=1))
    assert not [text for text in result.warnings if "train_text_encoder" in text]


@pytest.mark.parametrize("family", ["tiny_sd15", "tiny_sdxl"])
def test_a_single_file_trains_to_the_lora_of_its_folder(family, request, tmp_path):
    folder = request.getfixturevalue(family)
    if family == "tiny_sdxl":
        folder = save_sdxl(tmp_path / "sdxl", widths=(24, 40))
    model = save_single_file(folder, tmp_path / "model.safetensors")
    dataset = write_dataset(tmp_path / "set")
    settings = SETTINGS.replace(train_text_encoder=True)
    whole = LoraJob(dataset, tmp_path / "a.safetensors", base=folder, samples=None, device="cpu")
    single = replace(whole, output=tmp_path / "b.safetensors", base=model, base_config=folder)
    train_lora(whole, settings)
    assert not train_once(single, settings).known
    first, second = (lora_file.read(job.output).tensors for job in (whole, single))
    assert first.keys() == second.keys()
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert train_once(single, settings).known
    size = {"steps": 2, "width": 64, "height": 64, "device": "cpu", "config": folder}
    plain, drawn = (
        DiffusersBackend(model, loras=loras, **size).sample([REQUEST])
        for loras in ([], [(single.output, 1.0)])
    )
    assert not np.array_equal(plain, drawn)


@pytest.mark.parametrize("adapter", ["lokr", "loha"])
def test_a_training_of_lycoris_that_was_cut_goes_on_to_the_same_bits(adapter, tiny_sd15, tmp_path):
    dataset = write_dataset(tmp_path / "set")
    settings = SETTINGS.replace(
        adapter=adapter, dropout=0.3, ema_decay=0.5, train_text_encoder=True, lokr_factor=4
    )
    jobs = [
        LoraJob(dataset, tmp_path / name / "a.safetensors", base=tiny_sd15, samples=None)
        for name in ("whole", "cut")
    ]
    train_lora(jobs[0], settings)
    with pytest.raises(Cancelled):
        train_lora(jobs[1], settings, progress=CancelAfter(2, "Training"))
    train_lora(jobs[1], settings)
    assert jobs[0].output.read_bytes() == jobs[1].output.read_bytes()
    says = lora_file.read(jobs[0].output).metadata
    assert says["ss_network_module"] == "lycoris.kohya"
    assert json.loads(says["ss_network_args"])["algo"] == adapter


def test_the_state_of_a_training_from_something_else_is_not_continued(tiny_sd15, tmp_path):
    dataset = write_dataset(tmp_path / "set")
    first = LoraJob(dataset, tmp_path / "a.safetensors", base=tiny_sd15, samples=None)
    train_lora(first, SETTINGS)
    anew = replace(first, output=tmp_path / "b.safetensors")
    train_lora(anew, SETTINGS)
    with pytest.raises(StateMismatchError, match="what it goes on from"):
        train_lora(replace(anew, start=first.output), SETTINGS)
    further = replace(first, output=tmp_path / "c.safetensors", start=first.output)
    with pytest.raises(Cancelled):
        train_lora(further, SETTINGS, progress=CancelAfter(2, "Training"))
    with pytest.raises(StateMismatchError, match="what it goes on from"):
        train_lora(replace(further, start=None), SETTINGS)
    train_lora(further, SETTINGS)
    whole = replace(further, output=tmp_path / "d" / "c.safetensors")
    train_lora(whole, SETTINGS)
    assert whole.output.read_bytes() == further.output.read_bytes()


@pytest.mark.slow
def test_stable_diffusion_at_full_size(tmp_path):
    """Needs about 6 GB of memory."""
    from benchmarks.layouts import sd15
    from character_curator.training.denoisers.load import of_pipeline

    pipeline = sd15()
    pipeline.set_progress_bar_config(disable=True)

    def image():
        return pipeline(
            "char1 smiling", num_inference_steps=1, guidance_scale=1.0, width=64, height=64,
            generator=torch.Generator().manual_seed(0), output_type="pt",
        ).images  # fmt: skip

    # It gives the weights another memory layout, which rounds differently.
    denoiser = of_pipeline(pipeline, "random weights in the layout of Stable Diffusion 1.5")
    before = image()
    job = LoraJob(write_dataset(tmp_path / "set"), tmp_path / "a.safetensors", samples=None)
    settings = SETTINGS.replace(steps=2, bucket_step=64, validation_share=0.0)
    result = train_lora(job, settings, denoiser=denoiser)
    assert len(lora_file.read(result.file).names) == 128  # q, k, v and out of 32 attentions
    assert torch.equal(image(), before)  # the adapters are gone
    pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors")
    assert not torch.equal(image(), before)
