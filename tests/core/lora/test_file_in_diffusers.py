"""diffusers makes of a LoRA file what was trained, and so does the generation's own back end."""

from __future__ import annotations

import logging

import pytest
import torch

from character_curator.generation.pipelines import LoraError, add_lora
from character_curator.lora import file as lora_file
from character_curator.lora import names as layer_names
from character_curator.lora.adapters import LoraSettings
from tests.support.lora_weights import KINDS, kohya, kohya_xl, pipeline_in, trained
from tests.support.tiny_outputs import distance, outputs, run_unet, unet_inputs

FAMILIES = {"tiny_sd15": kohya, "tiny_sdxl": kohya_xl, "tiny_flux": layer_names.diffusers}


def pipeline_of(family, request):
    return pipeline_in(request.getfixturevalue(family))


def modules_of(pipeline):
    flux = hasattr(pipeline, "transformer")
    modules = {"denoiser": pipeline.transformer if flux else pipeline.unet}
    modules["te1"] = pipeline.text_encoder
    if getattr(pipeline, "text_encoder_2", None) is not None and not flux:
        modules["te2"] = pipeline.text_encoder_2
    return modules


def assert_every_key_is_used(pipeline, path, caplog):
    """Every layer of the file has an adapter in the pipeline, and nobody complains."""
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    # That a file has nothing for the text encoders is no fault.
    assert not [text for text in said if "key" in text and "No LoRA keys associated" not in text]
    from peft.tuners.tuners_utils import BaseTunerLayer

    loaded = sum(
        isinstance(layer, BaseTunerLayer)
        for module in modules_of(pipeline).values()
        for layer in module.modules()
    )
    assert loaded == len(lora_file.read(path).names)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_diffusers_loads_what_was_trained(family, kind, request, tmp_path, caplog):
    pipeline = pipeline_of(family, request)
    settings = LoraSettings(**{**vars(KINDS[kind]), "text_encoder": True})
    plain = outputs(pipeline)
    adapters = trained(modules_of(pipeline), settings)
    expected = outputs(pipeline)
    assert all(distance(a, b) > 0.01 for a, b in zip(plain, expected, strict=True))
    path = tmp_path / "lora.safetensors"
    lora_file.write(path, lora_file.tensors_of(adapters, FAMILIES[family]), {})
    adapters.remove()
    caplog.clear()
    pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    assert_every_key_is_used(pipeline, path, caplog)
    for got, want in zip(outputs(pipeline), expected, strict=True):
        assert distance(got, want) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("magnitudes", ["dora_scale", "folded"])
def test_diffusers_loads_dora(family, magnitudes, request, tmp_path, caplog):
    pipeline = pipeline_of(family, request)
    adapters = trained({"denoiser": modules_of(pipeline)["denoiser"]}, KINDS["dora"])
    expected = outputs(pipeline)[0]
    path = tmp_path / "lora.safetensors"
    tensors = lora_file.tensors_of(adapters, FAMILIES[family], magnitudes=magnitudes)
    lora_file.write(path, tensors, {})
    adapters.remove()
    caplog.clear()
    if magnitudes == "folded":
        pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    else:
        pipeline.load_lora_weights(lora_file.for_diffusers(pipeline, lora_file.read(path)))
    assert_every_key_is_used(pipeline, path, caplog)
    assert distance(outputs(pipeline)[0], expected) < 1e-3


@pytest.mark.parametrize("kind", ["dora", "lokr", "lokr, both", "lokr, whole", "loha"])
def test_our_own_back_end_renders_what_diffusers_does_not_read(kind, tiny_sd15, tmp_path):
    """Images by the path that evaluation takes are those of the adapters that were trained."""
    pipeline = pipeline_in(tiny_sd15)
    adapters = trained({"denoiser": pipeline.unet}, KINDS[kind])
    with torch.no_grad():
        expected = run_unet(pipeline.unet, unet_inputs())
    path = tmp_path / "lora.safetensors"
    lora_file.write(path, lora_file.tensors_of(adapters, kohya), {})
    adapters.remove()
    add_lora(pipeline, path, "another")
    add_lora(pipeline, path, "char1")
    pipeline.set_adapters(["char1"], [1.0])
    with torch.no_grad():
        assert distance(run_unet(pipeline.unet, unet_inputs()), expected) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["lokr", "loha"])
def test_our_own_back_end_loads_lycoris_of_every_family_and_weighs_it(
    family, kind, request, tmp_path
):
    pipeline = pipeline_of(family, request)
    settings = LoraSettings(**{**vars(KINDS[kind]), "text_encoder": True})
    plain = outputs(pipeline)
    adapters = trained(modules_of(pipeline), settings)
    expected = outputs(pipeline)
    path = tmp_path / "lora.safetensors"
    lora_file.write(path, lora_file.tensors_of(adapters, FAMILIES[family]), {})
    adapters.remove()
    add_lora(pipeline, path, "char1")
    pipeline.set_adapters(["char1"], [1.0])
    for got, want in zip(outputs(pipeline), expected, strict=True):
        assert distance(got, want) < 1e-4
    pipeline.set_adapters(["char1"], [0.0])
    for got, want in zip(outputs(pipeline), plain, strict=True):
        assert distance(got, want) < 1e-6


def test_lycoris_of_another_model_is_refused(tiny_sd15, tiny_sdxl, tmp_path):
    adapters = trained({"denoiser": pipeline_in(tiny_sd15).unet}, KINDS["loha"])
    path = tmp_path / "lora.safetensors"
    lora_file.write(path, lora_file.tensors_of(adapters, kohya), {})
    with pytest.raises(LoraError, match="does not fit"):
        add_lora(pipeline_in(tiny_sdxl), path, "char1")
