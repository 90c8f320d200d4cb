"""What only encoding needs gives its memory back, and returns as it was."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from character_curator.generation.models import ModelNotFoundError
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.training.data.buckets import Size
from character_curator.training.denoisers.frozen_parts import is_offloaded
from character_curator.training.denoisers.load import load, of_pipeline
from character_curator.training.outputs.samples import SampleSettings
from tests.support.lora_weights import pipeline_in, shake

FAMILIES = ["tiny_sd15", "tiny_sdxl", "tiny_flux"]
CAPTIONS = ["char1 woman", "char1 woman, from the side, smiling"]
SAMPLES = SampleSettings(prompts=tuple(CAPTIONS), steps=2)


@pytest.fixture(params=FAMILIES)
def folder(request):
    return request.getfixturevalue(request.param)


def in_memory(denoiser):
    """Names of the parts that hold their weights."""
    parts = denoiser._pipeline.components.items()
    return {
        name for name, part in parts if isinstance(part, torch.nn.Module) and not is_offloaded(part)
    }


def encoded(denoiser):
    pixels = 2 * torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        text = denoiser.encode_text(CAPTIONS)
    return {"latents": denoiser.encode_pixels(pixels, None), **text.tensors}


def test_encoders_return_bit_for_bit(folder):
    denoiser = load(folder, device="cpu")
    there, before = in_memory(denoiser), encoded(denoiser)
    denoiser.offload_encoders()
    assert in_memory(denoiser) == {denoiser._part}
    after = encoded(denoiser)
    assert in_memory(denoiser) == there
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_captions_bring_only_the_text_encoders_back(folder):
    denoiser = load(folder, device="cpu")
    whole = in_memory(denoiser)
    denoiser.offload_encoders()
    denoiser.encode_text(CAPTIONS)
    assert in_memory(denoiser) == whole - {"vae"}
    denoiser.offload_encoders()
    denoiser.encode_pixels(torch.zeros(1, 3, 64, 64), None)
    assert in_memory(denoiser) == {denoiser._part, "vae"}


def test_samples_are_the_same_and_leave_the_encoders_where_they_were(folder):
    denoiser = load(folder, device="cpu")
    adapters = inject({"denoiser": denoiser.module()}, LoraSettings())
    shake(adapters)
    denoiser.module().eval()
    before, whole = denoiser.sample(adapters, SAMPLES, Size(64, 64)), in_memory(denoiser)
    denoiser.offload_encoders()
    after = denoiser.sample(adapters, SAMPLES, Size(64, 64))
    assert np.array_equal(before, after)
    assert in_memory(denoiser) == {denoiser._part} != whole


def test_a_text_encoder_that_is_trained_stays(tiny_sdxl):
    denoiser = load(tiny_sdxl, device="cpu")
    inject({"te1": denoiser.text_modules()["te1"]}, LoraSettings(text_encoder=True))
    denoiser.offload_encoders()
    assert in_memory(denoiser) == {"unet", "text_encoder"}
    denoiser.encode_text(CAPTIONS).tensors["prompt_embeds"].sum().backward()
    encoder = denoiser.text_modules()["te1"]
    assert any(p.grad is not None for p in encoder.parameters())


def test_a_pipeline_from_elsewhere_stays_whole(folder):
    denoiser = of_pipeline(pipeline_in(folder))
    whole = in_memory(denoiser)
    denoiser.offload_encoders()
    assert in_memory(denoiser) == whole


def test_a_model_that_is_gone_meanwhile_is_named(tiny_sd15, tmp_path):
    copy = shutil.copytree(tiny_sd15, tmp_path / "model")
    denoiser = load(copy, device="cpu")
    denoiser.offload_encoders()
    shutil.rmtree(copy / "vae")
    with pytest.raises(ModelNotFoundError, match="model"):
        denoiser.encode_pixels(torch.zeros(1, 3, 64, 64), None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_laid_out_without_a_change_of_value_or_file(folder, dtype):
    files = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    denoiser = load(folder, device="cpu", dtype=dtype)
    plain = pipeline_in(folder)
    for name in in_memory(denoiser):
        expected = getattr(plain, name).state_dict()
        found = getattr(denoiser.pipeline, name).state_dict()
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert torch.equal(value, expected[key].to(value.dtype)), f"{name}.{key}"
            if value.dim() == 4:
                assert value.is_contiguous(memory_format=torch.channels_last), f"{name}.{key}"
    assert files == {path: path.read_bytes() for path in files}
