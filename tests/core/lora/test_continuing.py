"""Adapters that go on from a file are the file's, in kind, ranks, scales and layers."""

from __future__ import annotations

import hashlib

import pytest
import torch

from character_curator.lora import file as lora_file
from character_curator.lora.adapters import LoraSettings, inject
from character_curator.lora.continuing import Origin
from character_curator.training import TrainingSettings
from character_curator.training.trainer import following
from tests.support.lora_weights import KINDS, kohya, pipeline_in, shake, trained
from tests.support.tiny_outputs import distance, run_unet, unet_inputs


def written(path, adapters):
    lora_file.write(path, lora_file.tensors_of(adapters, kohya), {})
    return Origin.of(path)


def test_an_origin_is_known_by_its_name_and_its_bytes(tiny_sd15, tmp_path):
    adapters = trained({"denoiser": pipeline_in(tiny_sd15).unet}, LoraSettings())
    path = tmp_path / "first.safetensors"
    origin = written(path, adapters)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin.to_mapping() == {"file": "first.safetensors", "sha256": digest}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_of_other_settings_follows_the_file(kind, tiny_sd15, tmp_path):
    """The settings name another rank, alpha, kind and other layers: it predicts what it did."""
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, KINDS[kind])
    with torch.no_grad():
        expected = run_unet(unet, unet_inputs())
    origin = written(tmp_path / "first.safetensors", adapters)
    adapters.remove()
    other = TrainingSettings(rank=7, alpha=1.0, targets="attention", seed=5)
    settings = following(other, origin)
    made, own = KINDS[kind], settings.adapters()
    assert (own.kind, own.dora) == (made.kind, made.dora)
    assert own.scale == pytest.approx(made.scale if kind != "lokr, whole" else 1.0)
    if kind != "lokr, whole":
        assert own.rank == made.rank
    again = origin.adapters({"denoiser": unet}, own, kohya)
    unet.eval()
    with torch.no_grad():
        assert distance(run_unet(unet, unet_inputs()), expected) < 1e-5
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in again.parameters())
    assert again.placements["denoiser"].adapted > 20
    tensors = lora_file.tensors_of(again, kohya)
    assert tensors.keys() == origin.file.tensors.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, origin.file.tensors[key], rtol=1e-5, atol=1e-7)
    run_unet(unet, unet_inputs()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in again.parameters())
    again.remove()
    assert not any("lora" in name for name, _ in unet.named_modules())


def test_layers_keep_their_own_ranks_and_scales(tiny_sd15, tmp_path):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, LoraSettings(rank=4, alpha=4.0))
    tensors = lora_file.tensors_of(adapters, kohya)
    adapters.remove()
    first = sorted(key.removesuffix(".alpha") for key in tensors if key.endswith(".alpha"))[0]
    tensors[f"{first}.lora_down.weight"] = tensors[f"{first}.lora_down.weight"][:3].clone()
    tensors[f"{first}.lora_up.weight"] = tensors[f"{first}.lora_up.weight"][:, :3].clone()
    tensors[f"{first}.alpha"] = torch.tensor(1.5)
    path = tmp_path / "first.safetensors"
    lora_file.write(path, tensors, {})
    origin = Origin.of(path)
    settings = following(TrainingSettings(), origin)
    assert (settings.rank, settings.alpha) == (4, 4.0)
    again = origin.adapters({"denoiser": unet}, settings.adapters(), kohya)
    found = lora_file.tensors_of(again, kohya)
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_layers_that_the_preset_means_stay_said_by_its_name(tiny_sd15, tmp_path):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, LoraSettings(targets="attention"))
    origin = written(tmp_path / "first.safetensors", adapters)
    paths = [path for _, path, _ in adapters.layers()]
    adapters.remove()
    for targets in ("attention", "full"):
        settings = following(TrainingSettings(targets=targets), origin).adapters()
        again = origin.adapters({"denoiser": unet}, settings, kohya)
        assert [path for _, path, _ in again.layers()] == paths
        assert again.settings.targets == ("attention" if targets == "attention" else tuple(paths))
        again.remove()


@pytest.mark.parametrize(("in_file", "asked", "says"), [(True, False, "on"), (False, True, "off")])
def test_text_encoders_are_trained_as_the_file_has_them(in_file, asked, says, tiny_sd15, tmp_path):
    pipeline = pipeline_in(tiny_sd15)
    modules = {"denoiser": pipeline.unet, "te1": pipeline.text_encoder}
    adapters = trained(modules, LoraSettings(text_encoder=in_file))
    origin = written(tmp_path / "first.safetensors", adapters)
    adapters.remove()

    def settings(text):
        return following(TrainingSettings(train_text_encoder=text), origin).adapters()

    with pytest.raises(lora_file.CheckpointError, match=f"switch train_text_encoder {says}"):
        origin.adapters(modules, settings(asked), kohya)
    again = origin.adapters(modules, settings(in_file), kohya)
    assert bool(again.parameters("te1")) is in_file


def test_a_file_of_another_model_is_named_and_nothing_is_left(tiny_sd15, tmp_path):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, LoraSettings())
    tensors = lora_file.tensors_of(adapters, kohya)
    adapters.remove()
    path = tmp_path / "first.safetensors"
    strange = {
        f"lora_unet_other{key}" if n < 3 else key: t for n, (key, t) in enumerate(tensors.items())
    }
    lora_file.write(path, strange, {})
    with pytest.raises(lora_file.CheckpointError, match="layers that the model does not"):
        Origin.of(path).adapters({"denoiser": unet}, LoraSettings(), kohya)
    wide = {k: torch.cat([t, t], 1) if k.endswith("down.weight") else t for k, t in tensors.items()}
    lora_file.write(path, wide, {})
    with pytest.raises(lora_file.CheckpointError, match="another size"):
        Origin.of(path).adapters({"denoiser": unet}, LoraSettings(), kohya)
    lora_file.write(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(lora_file.CheckpointError, match="no layer"):
        Origin.of(path)
    shake(inject({"denoiser": unet}, LoraSettings()))  # it takes new ones
