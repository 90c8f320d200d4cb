"""The diffusers back end: families, schedulers, LoRAs, models and their fingerprints."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image, DDIMScheduler
from safetensors.torch import save_file

from character_curator.generation import conditions, models, schedulers
from character_curator.generation.diffusers_backend import DiffusersBackend, quantise
from character_curator.generation.pipelines import LoraError, ModelSettingsError
from character_curator.generation.reproduce import reproduce
from character_curator.generation.run import generate
from character_curator.lora.file import CheckpointError
from character_curator.plan import Plan, Scenario, Subject

SIZE = {"width": 64, "height": 64, "device": "cpu", "threads": 1}
REQUESTS = Plan(
    subjects=[Subject(name="char1", description="freckled woman")],
    seeds=[1],
    scenarios=[
        Scenario(number=n, name=f"s{n}", prompt=f"thing {n}", negative="bad") for n in range(1, 4)
    ],
).requests()


def plainly(folder, request, **arguments):
    """Make an image as diffusers' own documentation does, text in and one image out."""
    pipeline = AutoPipelineForText2Image.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(memory_format=torch.channels_last)
    if "Flux" not in type(pipeline).__name__:
        pipeline.unet.to(memory_format=torch.channels_last)
        arguments["negative_prompt"] = request.negative_prompt
    with conditions.exact(1):
        image = pipeline(
            request.prompt,
            generator=torch.Generator().manual_seed(request.noise_seed),
            width=64,
            height=64,
            output_type="np",
            **arguments,
        ).images[0]
    return np.clip(255.0 * image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("family", ["tiny_sd15", "tiny_sdxl", "tiny_flux"])
def test_every_family_gives_what_its_pipeline_gives_for_the_text(family, request):
    folder = request.getfixturevalue(family)
    backend = DiffusersBackend(folder, steps=2, guidance=3.0, **SIZE)
    expected = plainly(folder, REQUESTS[0], num_inference_steps=2, guidance_scale=3.0)
    assert np.array_equal(backend.sample(REQUESTS[:1])[0], expected)
    # One row of a batch is the same image up to rounding, and not another row's.
    batch = backend.sample(REQUESTS)
    assert np.abs(batch[0].astype(int) - expected).max() <= 1
    assert not np.array_equal(batch[0], batch[1])


@pytest.mark.parametrize("family", ["tiny_sdxl", "tiny_flux"])
def test_every_family_is_reproduced(family, request, tmp_path):
    folder = request.getfixturevalue(family)
    backend = DiffusersBackend(folder, steps=2, **SIZE)
    images = generate(REQUESTS, backend, tmp_path, batch_size=2)
    made = reproduce(images.paths()[1])
    assert made.identical, made.differences
    assert made.differences == ()


def test_a_prompt_is_encoded_once(tiny_sd15):
    backend = DiffusersBackend(tiny_sd15, steps=1, **SIZE)
    encoded = []
    encoder = backend._pipeline.text_encoder
    encoder.register_forward_hook(lambda *_: encoded.append(1))
    backend.sample(REQUESTS[:1])
    assert encoded
    encoded.clear()
    backend.sample([replace(REQUESTS[0], noise_seed=5), REQUESTS[0]])
    assert encoded == []


@pytest.mark.parametrize("name", [schedulers.MODEL, *schedulers.SCHEDULERS])
def test_every_scheduler_keeps_rows_apart(tiny_sd15, name):
    backend = DiffusersBackend(tiny_sd15, scheduler=name, steps=3, **SIZE)
    assert backend.maximum_batch is None
    one, other = backend.sample(REQUESTS[:2]), backend.sample(REQUESTS[1::-1])
    assert np.array_equal(one, other[::-1])
    again = DiffusersBackend.from_settings(json.loads(json.dumps(backend.settings)), device="cpu")
    assert again.settings == backend.settings


def test_a_scheduler_with_noise_of_its_own_gets_one_row_at_a_time(tiny_flux, tmp_path):
    own = DiffusersBackend(tiny_flux, steps=2, **SIZE).settings["scheduler"]
    noisy = {"class": own["class"], "config": own["config"] | {"stochastic_sampling": True}}
    backend = DiffusersBackend(tiny_flux, scheduler=noisy, steps=3, **SIZE)
    assert backend.maximum_batch == 1
    forward = generate(REQUESTS, backend, tmp_path / "a", batch_size=8)
    backward = generate(REQUESTS[::-1], backend, tmp_path / "b", batch_size=8)
    assert sorted(forward.table["hash"]) == sorted(backward.table["hash"])
    assert reproduce(forward.paths()[2], backend).identical


@pytest.mark.parametrize("steps", [1, 3])
def test_rows_are_not_their_own_where_the_global_generator_is_drawn_from(steps):
    # In a single step the rows still agree: the noise that is drawn is multiplied by zero.
    noisy = schedulers.make("euler_ancestral", DDIMScheduler())
    assert schedulers.has_rows_of_their_own(noisy, steps, with_generators=True)
    state = torch.get_rng_state()
    assert not schedulers.has_rows_of_their_own(noisy, steps, with_generators=False)
    assert torch.equal(torch.get_rng_state(), state)
    quiet = schedulers.make("ddim", DDIMScheduler())
    assert schedulers.has_rows_of_their_own(quiet, steps, with_generators=False)


@pytest.mark.parametrize("name", ["no-such", "FlowMatchEulerDiscreteScheduler", "AutoencoderKL"])
def test_a_scheduler_that_does_not_fit_is_named(tiny_sd15, name):
    with pytest.raises(schedulers.SchedulerError, match=name):
        DiffusersBackend(tiny_sd15, scheduler=name, **SIZE)


def test_a_flow_model_refuses_schedulers_of_other_kinds(tiny_flux):
    with pytest.raises(schedulers.SchedulerError, match="flow matching"):
        DiffusersBackend(tiny_flux, scheduler="ddim", **SIZE)


@pytest.fixture(scope="module")
def lora(tiny_sd15, tmp_path_factory):
    """A LoRA file for the tiny SD 1.5, with random weights."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = AutoPipelineForText2Image.from_pretrained(tiny_sd15)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    torch.manual_seed(0)
    state = get_peft_model_state_dict(pipeline.unet)
    folder = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers={name: torch.randn_like(value) for name, value in state.items()},
        weight_name="char1.safetensors",
    )
    return folder / "char1.safetensors"


def test_a_lora_changes_the_image_and_is_reproduced(tiny_sd15, lora, tmp_path):
    bare = DiffusersBackend(tiny_sd15, steps=2, **SIZE)
    none = DiffusersBackend(tiny_sd15, steps=2, loras=[(lora, 0.0)], **SIZE)
    with_lora = DiffusersBackend(tiny_sd15, steps=2, loras=[(lora, 1.0)], **SIZE)
    samples = [backend.sample(REQUESTS[:1]) for backend in (bare, none, with_lora)]
    assert np.array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])
    images = generate(REQUESTS, with_lora, tmp_path, batch_size=2)
    made = reproduce(images.paths()[0])
    assert made.identical, made.differences
    recorded = json.loads(images.table["generation"][0])["settings"]["loras"]
    assert recorded[0]["sha256"] == models.file_hash(lora)
    assert not np.array_equal(made.image, samples[0][0])


def test_a_lora_that_is_missing_or_of_another_model_is_named(tiny_sd15, tiny_flux, lora, tmp_path):
    with pytest.raises(LoraError, match="no LoRA file"):
        DiffusersBackend(tiny_sd15, loras=[(tmp_path / "absent.safetensors", 1.0)], **SIZE)
    with pytest.raises(LoraError, match="does not fit"):
        DiffusersBackend(tiny_flux, loras=[(lora, 1.0)], **SIZE).sample(REQUESTS[:1])


@pytest.mark.parametrize("fault", ["no up", "alpha of several"])
def test_a_lora_that_is_not_whole_is_not_said_to_be_for_another_model(tiny_sd15, tmp_path, fault):
    tensors = {"lora_unet_a.lora_down.weight": torch.zeros(2, 4)}
    if fault == "alpha of several":
        tensors |= {"lora_unet_a.lora_up.weight": torch.zeros(4, 2)}
        tensors |= {"lora_unet_a.alpha": torch.zeros(3)}
    save_file(tensors, tmp_path / "a.safetensors")
    backend = DiffusersBackend(tiny_sd15, loras=[(tmp_path / "a.safetensors", 1.0)], **SIZE)
    with pytest.raises(CheckpointError, match="not whole"):
        backend.sample(REQUESTS[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 60}, "multiples of 8"),
        ({"height": -64}, "multiples of 8"),
        ({"dtype": "float8"}, "float16"),
        ({"device": "abacus"}, "no device 'abacus'"),
    ],
)
def test_impossible_settings_are_named(tiny_sd15, change, message):
    with pytest.raises(ModelSettingsError, match=message):
        DiffusersBackend(tiny_sd15, **SIZE | change)


def test_the_size_is_the_models_own_unless_given(tiny_sd15):
    backend = DiffusersBackend(tiny_sd15, device="cpu")
    assert (backend.settings["width"], backend.settings["height"]) == (128, 128)


@pytest.mark.parametrize("family", ["tiny_sd15", "tiny_sdxl", "tiny_flux"])
def test_what_is_said_before_the_weights_are_loaded_is_true_of_them(family, request):
    backend = DiffusersBackend(request.getfixturevalue(family), device="cpu")
    said = backend.settings
    assert "_pipeline" not in vars(backend)
    pipeline = backend._pipeline
    assert type(pipeline).__name__ == said["pipeline"]
    latents = getattr(pipeline, "default_sample_size", None) or pipeline.unet.config.sample_size
    assert said["width"] == said["height"] == latents * pipeline.vae_scale_factor
    assert hasattr(pipeline, "prepare_extra_step_kwargs") == (family != "tiny_flux")


def test_steps_are_reported_and_may_cancel(tiny_sd15):
    backend = DiffusersBackend(tiny_sd15, steps=4, **SIZE)
    seen = []

    def watch(step, steps):
        seen.append((step, steps))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.sample(REQUESTS[:1], watch)
    assert seen == [(1, 4), (2, 4), (3, 4)]


def test_the_process_keeps_its_threads_and_random_state(tiny_sd15):
    backend = DiffusersBackend(tiny_sd15, steps=1, width=64, height=64, device="cpu", threads=3)
    before = (torch.get_num_threads(), torch.get_rng_state())
    backend.sample(REQUESTS[:1])
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_bytes_are_cut_off_not_rounded():
    values = np.array([-0.1, 0.0, 0.5, 0.99999, 1.0, 1.2], np.float32)
    assert quantise(values).tolist() == [0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "no model at"),
        (Path("owner/name"), "no model at"),
        ("not a model", "no model at"),
    ],
)
def test_a_model_that_is_nowhere_is_named(name, message):
    with pytest.raises(models.ModelNotFoundError, match=message):
        DiffusersBackend(name)


def test_a_folder_without_a_pipeline_and_one_cut_in_half_are_named(tiny_sd15, tmp_path):
    with pytest.raises(models.ModelNotFoundError, match=r"model_index\.json"):
        DiffusersBackend(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(models.ModelNotFoundError, match="no whole safetensors file"):
        DiffusersBackend(tmp_path / "model.safetensors")
    half = shutil.copytree(tiny_sd15, tmp_path / "half")
    next((half / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(models.ModelNotFoundError, match="can't be loaded"):
        DiffusersBackend(half).sample(REQUESTS[:1])
    shutil.rmtree(half / "unet")
    with pytest.raises(models.ModelNotFoundError, match="can't be loaded: unet"):
        DiffusersBackend(half)


def test_a_hub_model_offline_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(models.ModelNotFoundError, match=r"HF_HUB_OFFLINE is set.*give its folder"):
        DiffusersBackend("someone/some-model-that-is-not-here")


def test_a_fingerprint_is_of_the_content(tiny_sd15, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = models.fingerprint(tiny_sd15)
    copy = shutil.copytree(tiny_sd15, tmp_path / "copy")
    (copy / "README.md").write_text("about")
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps(config | {"_diffusers_version": "9"}))
    assert models.fingerprint(copy) == before
    (weights,) = (copy / "unet").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert models.fingerprint(copy) != before


def test_hashes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = models.file_hash(file)
    hashed = []
    monkeypatch.setattr(models, "content_hash", lambda path: hashed.append(path) or "new")
    assert models.file_hash(file) == first
    file.write_bytes(b"other")
    assert models.file_hash(file) == "new"
    assert hashed == [file]


@pytest.mark.parametrize("damage", ["none", "header", "keyword"])
def test_damaged_hashes_are_begun_anew_and_that_is_said(tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = models.file_hash(file)
    (known,) = (tmp_path / "cache").rglob("*.sqlite")
    data = bytearray(known.read_bytes())
    if damage == "header":
        data[:16] = b"no database at al"[:16]
    elif damage == "keyword":
        data[data.index(b"CREATE TABLE states") + 8] = 0xE2
    known.write_bytes(data)
    assert models.file_hash(file) == first
    assert ("begun anew" in caplog.text) == (damage != "none")
    monkeypatch.setattr(models, "content_hash", lambda path: "hashed again")
    assert models.file_hash(file) == first, "it is remembered"


def test_records_do_not_tell_the_users_name(tiny_sd15, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_sd15.parent))
    assert models.reference(tiny_sd15) == f"~/{tiny_sd15.name}"
    assert models.reference("owner/name") == "owner/name"
    assert models.model_path(f"~/{tiny_sd15.name}") == tiny_sd15


def test_differences_name_what_has_changed():
    before = {"device": {"kind": "cpu", "name": "A"}, "versions": {"torch": "2.8"}, "threads": 2}
    after = {"device": {"kind": "cuda", "name": "A"}, "versions": {"torch": "2.9"}, "threads": 2}
    assert conditions.differences(before, after) == [
        "device kind: cpu -> cuda",
        "torch: 2.8 -> 2.9",
    ]
    assert conditions.differences(before, before) == []


@pytest.mark.parametrize("name", ["dpmpp_2m_karras", "unipc", "ddim"])
def test_a_record_of_a_scheduler_is_plain_json_and_makes_the_same_again(name):
    own = schedulers.make(name, DDIMScheduler())
    described = schedulers.describe(own)
    json.dumps(described, allow_nan=False)
    again = schedulers.make(described, DDIMScheduler())
    assert type(again) is type(own)
    assert {k: again.config[k] for k in own.config if k[0] != "_"} == {
        k: v for k, v in own.config.items() if k[0] != "_"
    }
