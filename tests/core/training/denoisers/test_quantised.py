"""Base models in 4 and 8 bits, by the real bitsandbytes, on a CPU."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file

from character_curator.errors import MissingDependencyError
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.training import LoraJob, SampleSettings, TrainingSettings, train_lora
from character_curator.training.denoisers.load import identity_of, load
from character_curator.training.denoisers.quantised import BasePrecisionError, quantise
from character_curator.training.finished import train_once
from character_curator.training.settings import SettingsError
from tests.support.tiny_denoiser import make_dataset

PRECISIONS = ["nf4", "int8"]
SETTINGS = TrainingSettings(
    rank=2, steps=4, batch_size=2, learning_rate=1e-2, resolution=64, bucket_step=16,
    validation_share=0.3, validation_timesteps=2, save_every=1,
)  # fmt: skip


@pytest.fixture(params=["tiny_sd15", "tiny_flux"])
def folder(request):
    return request.getfixturevalue(request.param)


def prediction(denoiser):
    source = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 8, 8, generator=source)
    text = denoiser.encode_text(["char1", "a hat"])
    return denoiser.predict(noisy, denoiser.fixed_timesteps(2), text, [(64, 64)] * 2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_blocks_are_held_in_fewer_bits_and_predict_nearly_the_same(folder, precision):
    pytest.importorskip("bitsandbytes")
    plain, small = load(folder), load(folder, precision=precision)
    with torch.no_grad():
        expected, found = prediction(plain), prediction(small)
    error = float((found - expected).norm() / expected.norm())
    assert 0 < error < (0.3 if precision == "nf4" else 0.05)
    kinds = {type(part).__name__ for part in small.module().modules()}
    assert ("Linear4bit" if precision == "nf4" else "Linear8bitLt") in kinds
    types = {getattr(p, "quant_type", None) for p in small.module().parameters()} - {None}
    assert types == ({"nf4"} if precision == "nf4" else set())
    assert f"in {precision}, " in small.base_said
    assert plain.base_said == ""
    assert small.identity != plain.identity
    assert small.identity == identity_of(folder, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_are_those_of_the_weights_as_they_are_held(folder, precision):
    pytest.importorskip("bitsandbytes")
    denoiser = load(folder, precision=precision)
    adapters = inject({"denoiser": denoiser.module()}, LoraSettings(dropout=0.0, rank=2), seed=1)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=source))
    prediction(denoiser).square().mean().backward()
    there = {p: p.grad.clone() for p in adapters.parameters()}
    assert all(bool(grad.abs().max() > 0) for grad in there.values())
    length = sum(grad.square().sum() for grad in there.values()).sqrt()
    errors = []
    for step in (3e-2, 1e-2):
        losses = []
        with torch.no_grad():
            for sign in (1, -2, 1):  # there, to the other side, and back
                for parameter, grad in there.items():
                    parameter.add_(grad, alpha=sign * step / float(length))
                losses.append(prediction(denoiser).square().mean().double())
        slope = float((losses[0] - losses[1]) / (2 * step))
        errors.append(abs(slope - float(length)) / float(length))
    # Activations are rounded to 8 bits as well, so that the loss has steps.
    assert min(errors) < (0.01 if precision == "nf4" else 0.2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_lora_is_trained_sampled_and_found_again(tiny_flux, tmp_path, precision):
    pytest.importorskip("bitsandbytes")
    dataset = make_dataset(tmp_path / "images", 4)
    job = LoraJob(
        dataset, tmp_path / "a.safetensors", base=tiny_flux, base_precision=precision,
        samples=SampleSettings(("char1",), steps=1),
    )  # fmt: skip
    result = train_once(job, SETTINGS)
    losses = result.training.history["validation_loss"].to_list()
    assert losses[-1] < losses[0]
    assert precision in result.memory
    assert result.samples is not None
    again = train_once(job, SETTINGS)
    assert again.known
    assert again.memory == result.memory
    assert any(bool(t.any()) for t in load_file(job.output).values())
    for other in ({"block_swap": 1}, {"dora": True}, {"adapter": "lokr"}):
        with pytest.raises(SettingsError, match="plain LoRA"):
            train_lora(job, SETTINGS.replace(**other))


def test_a_missing_library_says_how_to_get_it(tiny_flux, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingDependencyError, match="pip install bitsandbytes"):
        load(tiny_flux, precision="nf4")
    assert load(tiny_flux).base_said == ""


def test_a_model_without_linear_layers_in_blocks_says_so():
    pytest.importorskip("bitsandbytes")
    with pytest.raises(BasePrecisionError, match="no linear layer"):
        quantise(torch.nn.Conv2d(1, 1, 1), "nf4", "cpu")
