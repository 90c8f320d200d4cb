"""Checkpoints in one file: the same pixels as the folder that they were written from."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from character_curator.generation import models, single_file
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.model_files import located
from character_curator.generation.models import ModelNotFoundError
from character_curator.generation.reproduce import reproduce
from character_curator.generation.run import generate
from character_curator.plan import Request
from character_curator.training.denoisers.load import identity_of, load
from tests.support.single_files import save_single_file, z_image_names
from tests.support.tiny_flows import FLOWS

SIZE = {"width": 64, "height": 64, "device": "cpu", "threads": 1, "steps": 2}
REQUESTS = [
    Request("a", 1, "scenario", n, 1, "", "", "char1 smiling", "blurred", "", 7) for n in (1, 2)
]
FAMILIES = ("tiny_sd15", "tiny_sdxl_widths")


@pytest.fixture(scope="module")
def tiny_sdxl_widths(tmp_path_factory):
    from tests.support.tiny_models import save_sdxl

    return save_sdxl(tmp_path_factory.mktemp("models") / "sdxl", widths=(24, 40))


@pytest.fixture(params=FAMILIES)
def folder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def config(folder, tmp_path):
    """The folder's configurations and tokenizers, without a weight."""
    ignore = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(folder, tmp_path / "config", ignore=ignore)


@pytest.fixture
def file(folder, tmp_path):
    return save_single_file(folder, tmp_path / "model.safetensors")


@pytest.fixture
def diffusers_says(caplog):
    """What the library logs, which keeps its messages from other loggers."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def image(model, **options):
    return DiffusersBackend(model, **SIZE, **options).sample(REQUESTS[:1])[0]


def test_it_makes_the_folders_pixels_and_is_reproduced(
    folder, file, config, tmp_path, diffusers_says
):
    expected = image(folder)
    assert np.array_equal(image(file, config=config), expected)
    assert "should be kept in float32" not in diffusers_says.text
    backend = DiffusersBackend(file, config=config, **SIZE)
    assert backend.settings["config"] == models.reference(config)
    images = generate(REQUESTS, backend, tmp_path / "made", batch_size=2)
    made = reproduce(images.paths()[1])
    assert made.identical, made.differences
    moved = file.rename(tmp_path / "elsewhere.safetensors")
    assert reproduce(images.paths()[1], model=moved).identical


def test_a_file_of_the_unet_alone_takes_the_rest_from_the_folder(folder, file, tmp_path):
    alone = tmp_path / "unet.safetensors"
    tensors = {k: v for k, v in load_file(file).items() if k.startswith("model.diffusion_model.")}
    first = "model.diffusion_model.out.2.weight"
    save_file(tensors | {first: 2 * tensors[first]}, alone)
    assert single_file.parts_in(file, folder) >= {"unet", "vae", "text_encoder"}
    assert single_file.parts_in(alone, folder) == {"unet"}
    pipeline = load(alone, config=folder, device="cpu").pipeline
    own = load(folder, device="cpu").pipeline
    assert torch.equal(pipeline.unet.conv_out.weight, 2 * own.unet.conv_out.weight)
    text = pipeline.text_encoder.state_dict()
    assert all(torch.equal(v, text[k]) for k, v in own.text_encoder.state_dict().items())
    assert not np.array_equal(image(alone, config=folder), image(folder))


@pytest.mark.parametrize("family", FLOWS)
def test_a_file_of_the_transformer_alone_is_trained_with_the_folders_other_parts(
    family, request, tmp_path
):
    folder = request.getfixturevalue(family)
    own = load(folder, device="cpu")
    weights = own.module().state_dict()
    last = [name for name, value in weights.items() if value.dim() == 2][-1]
    weights[last] = 2 * weights[last]
    names = z_image_names if family == "tiny_z_image" else dict
    file = tmp_path / "transformer.safetensors"
    save_file({k: v.contiguous().clone() for k, v in names(weights).items()}, file)
    assert single_file.parts_in(file, folder) == {"transformer"}
    denoiser = load(file, config=folder, device="cpu")
    assert denoiser.architecture == own.architecture
    assert denoiser.identity != own.identity
    read = denoiser.module().state_dict()
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], value) for name, value in weights.items())
    expected = own.encode_text(["char1"]).tensors
    denoiser.offload_encoders()
    found = denoiser.encode_text(["char1"]).tensors
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(denoiser.encode_pixels(pixels, None), own.encode_pixels(pixels, None))
    assert image(file, config=folder).shape == (64, 64, 3)


def test_the_identity_is_that_of_the_file_and_of_what_it_lacks(tiny_sd15, tmp_path):
    file = save_single_file(tiny_sd15, tmp_path / "model.safetensors")
    copy = shutil.copytree(tiny_sd15, tmp_path / "copy")
    before = located(file, copy).fingerprint()
    assert load(file, config=copy, device="cpu").identity == identity_of(
        file, config=copy, device="cpu"
    )
    (weights,) = (copy / "unet").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert located(file, copy).fingerprint() == before  # the file has a UNet
    settings = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps(settings | {"center_input_sample": True}))
    assert located(file, copy).fingerprint() != before
    tensors = load_file(file)
    save_file({k: v + 1e-3 for k, v in tensors.items()}, tmp_path / "other.safetensors")
    assert located(tmp_path / "other.safetensors", tiny_sd15).fingerprint() != before
    alone = tmp_path / "unet.safetensors"
    save_file({k: v for k, v in tensors.items() if k.startswith("model.")}, alone)
    with_unet = located(alone, tiny_sd15).fingerprint()
    (weights,) = (copy / "text_encoder").glob("*.safetensors")
    (copy / "unet/config.json").write_text(json.dumps(settings))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert located(alone, copy).fingerprint() != with_unet  # it has no text encoder


def test_what_a_file_says_of_its_prediction_is_heard(tiny_sdxl_widths, tmp_path):
    file = save_single_file(
        tiny_sdxl_widths, tmp_path / "vpred.safetensors", extra=("v_pred", "ztsnr")
    )
    denoiser = load(file, config=tiny_sdxl_widths, device="cpu")
    assert denoiser.prediction == "v_prediction"
    assert denoiser.snr(torch.tensor([999])).item() == 0
    backend = DiffusersBackend(file, config=tiny_sdxl_widths, **SIZE)
    assert backend.settings["scheduler"]["config"]["prediction_type"] == "v_prediction"
    assert load(tiny_sdxl_widths, device="cpu").prediction == "epsilon"


def test_parts_are_loaded_again_from_the_file(folder, file, config):
    denoiser = load(file, config=config, device="cpu")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = denoiser.encode_pixels(pixels, None), denoiser.encode_text(["char1"]).tensors
    denoiser.offload_encoders()
    assert torch.equal(denoiser.encode_pixels(pixels, None), expected[0])
    again = denoiser.encode_text(["char1"]).tensors
    assert all(torch.equal(again[name], value) for name, value in expected[1].items())


def test_what_is_in_the_hubs_cache_is_found_without_a_configuration(
    tiny_sd15, tmp_path, monkeypatch
):
    import huggingface_hub.constants

    file = save_single_file(tiny_sd15, tmp_path / "model.safetensors")
    repository = tmp_path / "hub/models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    shutil.copytree(tiny_sd15, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert np.array_equal(image(file), image(tiny_sd15))
    shutil.rmtree(repository)
    with pytest.raises(ModelNotFoundError, match=r"stable-diffusion-v1-5.*--model-config"):
        located(file)


def test_files_that_are_no_models_are_named(tiny_sd15, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"weights and weights")
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_a.lora_down.weight": torch.ones(1, 1)}, lora)
    lycoris = [tmp_path / f"{end}.safetensors" for end in ("lokr_w1", "lokr_w1_a", "hada_w1_a")]
    for path in lycoris:
        save_file({f"lora_unet_a.{path.stem}": torch.ones(1, 1)}, path)
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80")
    strange = tmp_path / "strange.safetensors"
    save_file({"layer.weight": torch.ones(1)}, strange)
    for path, message in (
        (broken, "no whole safetensors"), (lora, "LoRA file"), (pickle, "no .safetensors file"),
        (strange, "layer.weight.*--model-config"), *((path, "LoRA file") for path in lycoris),
    ):  # fmt: skip
        with pytest.raises(ModelNotFoundError, match=message):
            located(path)
    with pytest.raises(ModelNotFoundError, match="can't be loaded"):
        load(strange, config=tiny_sd15, device="cpu")
    with pytest.raises(ModelNotFoundError, match="no file"):
        located(tiny_sd15, config=tiny_sd15)
