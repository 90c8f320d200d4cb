"""The LoRA file: what diffusers and ComfyUI make of it is what was trained."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from lora_weights import pipeline_in, shake
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from character_curator.generation.pipelines import add_lora
from character_curator.training import checkpoint, layer_names
from character_curator.training.adapters import LoraSettings, inject
from character_curator.training.metadata import LoraCard, metadata

KINDS = {
    "lora": LoraSettings(rank=4, alpha=3, targets="full"),
    "rslora": LoraSettings(rank=4, alpha=3, targets="full", rslora=True),
    "dora": LoraSettings(rank=4, alpha=3, targets="full", dora=True),
}
CARD = LoraCard(title="char1", architecture="stable-diffusion-v1", trigger_phrase="char1 woman")


def unet_inputs(context=32, **more):
    generator = torch.Generator().manual_seed(3)
    return {
        "noisy": torch.randn(2, 4, 16, 16, generator=generator),
        "timesteps": torch.tensor([100.0, 700.0]),
        "context": torch.randn(2, 7, context, generator=generator),
        **more,
    }


def run_unet(unet, x):
    added = {"text_embeds": x["text_embeds"], "time_ids": x["time_ids"]} if "y" in x else None
    return unet(
        x["noisy"], x["timesteps"], encoder_hidden_states=x["context"], added_cond_kwargs=added
    ).sample


def sdxl_inputs(unet):
    time_ids = torch.tensor([[128.0, 96, 0, 0, 128, 128], [64, 64, 0, 0, 128, 128]])
    pooled = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))
    sizes = unet.add_time_proj(time_ids.flatten()).reshape(2, -1)
    y = torch.cat([pooled, sizes], dim=1)
    return unet_inputs(64, text_embeds=pooled, time_ids=time_ids, y=y)


def flux_inputs():
    generator = torch.Generator().manual_seed(5)
    return {
        "noisy": torch.randn(2, 4, 8, 8, generator=generator),
        "timesteps": torch.tensor([100.0, 700.0]),
        "context": torch.randn(2, 7, 32, generator=generator),
        "y": torch.randn(2, 32, generator=generator),
        "guidance": torch.tensor([1.0, 3.5]),
    }


def run_flux(transformer, x):
    from diffusers import FluxPipeline

    packed = FluxPipeline._pack_latents(x["noisy"], 2, 4, 8, 8)
    sample = transformer(
        hidden_states=packed,
        timestep=x["timesteps"] / 1000,
        guidance=x["guidance"],
        pooled_projections=x["y"],
        encoder_hidden_states=x["context"],
        txt_ids=torch.zeros(7, 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32),
    ).sample
    return FluxPipeline._unpack_latents(sample, 64, 64, 8)


def run_clip(encoder, x):
    return encoder(x["tokens"]).last_hidden_state


def distance(got, expected):
    """Largest difference, relative to the largest value."""
    return ((got - expected).abs().max() / expected.abs().max()).item()


def trained(modules, settings):
    """Return adapters as training leaves them: every weight moved, DoRA's magnitudes too."""
    adapters = inject(modules, settings)
    shake(adapters)
    for module in modules.values():
        module.eval()
    return adapters


def kohya(part, path):
    return layer_names.kohya(part, path)


def kohya_xl(part, path):
    return layer_names.kohya(part, path, text_encoders=2)


FAMILIES = {"tiny_sd15": kohya, "tiny_sdxl": kohya_xl, "tiny_flux": layer_names.diffusers}


def pipeline_of(family, request):
    return pipeline_in(request.getfixturevalue(family))


def outputs(pipeline):
    """What the parts that carry adapters give."""
    tokens = torch.arange(20, 27).repeat(2, 1)
    result = []
    with torch.no_grad():
        if hasattr(pipeline, "transformer"):
            result.append(run_flux(pipeline.transformer, flux_inputs()))
        elif hasattr(pipeline, "text_encoder_2"):
            result.append(run_unet(pipeline.unet, sdxl_inputs(pipeline.unet)))
            result.append(pipeline.text_encoder_2(tokens).last_hidden_state)
        else:
            result.append(run_unet(pipeline.unet, unet_inputs()))
        result.append(run_clip(pipeline.text_encoder, {"tokens": tokens}))
    return result


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
    assert loaded == len(checkpoint.read(path).names)


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
    checkpoint.write(path, checkpoint.tensors_of(adapters, FAMILIES[family]), {})
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
    tensors = checkpoint.tensors_of(adapters, FAMILIES[family], magnitudes=magnitudes)
    checkpoint.write(path, tensors, {})
    adapters.remove()
    caplog.clear()
    if magnitudes == "folded":
        pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    else:
        pipeline.load_lora_weights(checkpoint.for_diffusers(pipeline, checkpoint.read(path)))
    assert_every_key_is_used(pipeline, path, caplog)
    assert distance(outputs(pipeline)[0], expected) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_a_file(kind, tiny_sd15, tmp_path):
    unet = pipeline_in(tiny_sd15).unet
    adapters = trained({"denoiser": unet}, KINDS[kind])
    with torch.no_grad():
        expected = run_unet(unet, unet_inputs())
        file = checkpoint.LoraFile(checkpoint.tensors_of(adapters, kohya), {})
        shake(adapters, seed=9)
        assert distance(run_unet(unet, unet_inputs()), expected) > 0.01
        checkpoint.restore(adapters, file, kohya)
        assert distance(run_unet(unet, unet_inputs()), expected) < 1e-5
    adapters.remove()
    smaller = inject({"denoiser": unet}, LoraSettings(rank=2, targets="full"))
    with pytest.raises(checkpoint.CheckpointError, match="rank 4"):
        checkpoint.restore(smaller, file, kohya)
    smaller.remove()
    fewer = inject({"denoiser": unet}, LoraSettings())
    with pytest.raises(checkpoint.CheckpointError, match="differ in"):
        checkpoint.restore(fewer, file, kohya)


# ------------------------------------------------------------------------------------- ComfyUI


def comfyui_folder():
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
    if not (folder / "comfy" / "lora.py").is_file():
        pytest.skip(
            f"no ComfyUI at {folder}: clone https://github.com/comfyanonymous/ComfyUI there, or "
            "set COMFYUI_PATH"
        )
    needed = [name for name in ("einops", "torchsde") if not importlib.util.find_spec(name)]
    if needed:
        pytest.skip(f"ComfyUI needs {', '.join(needed)}: pip install {' '.join(needed)}")
    return folder


def comfy_sd15():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    ).eval()


def comfy_sdxl():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    ).eval()


def trained_copy(module, settings, part):
    module = copy.deepcopy(module)
    return module, trained({part: module}, settings)


@pytest.fixture(scope="module")
def in_comfyui(tiny_flux, tiny_sd15, tmp_path_factory):
    """Write files for all models and kinds; return what was trained and what ComfyUI makes of it.

    One process for all: importing ComfyUI is what takes the time.
    """
    comfyui = comfyui_folder()
    folder = tmp_path_factory.mktemp("comfyui")
    flux = pipeline_in(tiny_flux).transformer
    encoder = pipeline_in(tiny_sd15).text_encoder
    sdxl = comfy_sdxl()
    tokens = {"tokens": torch.arange(20, 97).reshape(1, 77) % 200}
    models = {
        "sd15": (comfy_sd15(), unet_inputs(), run_unet, kohya, "denoiser"),
        "sdxl": (sdxl, sdxl_inputs(sdxl), run_unet, kohya_xl, "denoiser"),
        "flux": (flux, flux_inputs(), run_flux, layer_names.diffusers, "denoiser"),
        "clip": (encoder, tokens, run_clip, kohya, "te1"),
    }
    cases, expected = [], []
    for model, (module, inputs, run, file_key, part) in models.items():
        weights, given = folder / f"{model}.safetensors", folder / f"{model}-inputs.safetensors"
        state = {k.removeprefix("text_model."): v for k, v in module.state_dict().items()}
        state = {k: v for k, v in state.items() if v.is_floating_point()}
        save_file(state, weights)
        save_file({k: v.contiguous() for k, v in inputs.items()}, given)
        for kind, settings in KINDS.items():
            plain = LoraSettings(**{**vars(settings), "text_encoder": part != "denoiser"})
            learner, adapters = trained_copy(module, plain, part)
            path = folder / f"{model}-{kind}.safetensors"
            checkpoint.write(path, checkpoint.tensors_of(adapters, file_key), {})
            with torch.no_grad():
                expected.append(run(learner, inputs))
            cases.append(
                {
                    "kind": model,
                    "weights": str(weights),
                    "lora": str(path),
                    "inputs": str(given),
                    "output": str(folder / f"{model}-{kind}-output.safetensors"),
                    "strength": 1.0,
                    "name": f"{model}-{kind}",
                    "layers": len(checkpoint.read(path).names),
                }
            )
            adapters.remove()
            with torch.no_grad():
                assert distance(run(learner, inputs), expected[-1]) > 0.01
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).parents[1] / "comfyui_lora.py"
    done = subprocess.run(
        [sys.executable, str(script), str(comfyui), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    assert answers, done.stderr[-3000:]
    return {
        case["name"]: (case, want, answer)
        for case, want, answer in zip(
            cases, expected, json.loads(answers[0].removeprefix("ANSWERS ")), strict=True
        )
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["sd15", "sdxl", "flux", "clip"])
def test_comfyui_loads_what_was_trained(model, kind, in_comfyui):
    case, expected, answer = in_comfyui[f"{model}-{kind}"]
    complaints = [text for text in answer["said"] if "LOADED" in text.upper() or "ERROR" in text]
    assert not complaints
    if model != "flux":  # where several layers of the file lie in one of ComfyUI's
        assert answer["patched"] == case["layers"]
    assert distance(load_file(case["output"])["output"], expected) < 1e-3


def test_our_own_back_end_renders_a_dora_file(tiny_sd15, tmp_path):
    """Pictures by the path that evaluation takes are those of the adapters that were trained."""
    pipeline = pipeline_in(tiny_sd15)
    adapters = trained({"denoiser": pipeline.unet}, KINDS["dora"])
    with torch.no_grad():
        expected = run_unet(pipeline.unet, unet_inputs())
    path = tmp_path / "lora.safetensors"
    checkpoint.write(path, checkpoint.tensors_of(adapters, kohya), {})
    adapters.remove()
    add_lora(pipeline, path, "another")
    add_lora(pipeline, path, "char1")
    pipeline.set_adapters(["char1"], [1.0])
    with torch.no_grad():
        assert distance(run_unet(pipeline.unet, unet_inputs()), expected) < 1e-3


# --------------------------------------------------------------------------------- file and text


@pytest.fixture
def tensors(tiny_sd15):
    unet = pipeline_in(tiny_sd15).unet
    return checkpoint.tensors_of(trained({"denoiser": unet}, LoraSettings()), kohya)


def test_names_and_shapes_are_kohyas(tensors):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{name}.lora_down.weight"].shape == (8, 32)
    assert tensors[f"{name}.lora_up.weight"].shape == (32, 8)
    assert tensors[f"{name}.alpha"].shape == ()
    assert float(tensors[f"{name}.alpha"]) == 8
    assert not [key for key in tensors if not key.startswith("lora_unet_")]


def test_a_text_encoders_layers_are_named_alike_whatever_its_module_is_called():
    expected = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert kohya("te1", "encoder.layers.0.mlp.fc1") == expected
    assert kohya("te1", "text_model.encoder.layers.0.mlp.fc1") == expected
    assert kohya_xl("te2", "text_projection") == "lora_te2_text_projection"


def test_the_same_content_gives_the_same_bytes_in_every_process(tensors, tmp_path):
    says = {f"key{n}": str(n) for n in range(30)}
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, tensors, dict(reversed(says.items())))
    assert path.read_bytes() == checkpoint.to_bytes(tensors, says)
    head = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert list(head["__metadata__"]) == sorted(says)
    again = checkpoint.read(path)
    assert again.metadata == says
    assert all(torch.equal(again.tensors[key], tensors[key]) for key in tensors)
    assert len(again.tensors) == len(tensors)


def test_weights_that_are_no_numbers_are_not_written(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, tensors, {})
    before = path.read_bytes()
    key = next(iter(tensors))
    tensors[key] = torch.full_like(tensors[key], float("nan"))
    with pytest.raises(checkpoint.NonFiniteWeightsError, match=key):
        checkpoint.write(path, tensors, {})
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(tensors, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, tensors, {"which": "old"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(checkpoint.CheckpointWriteError, match="Make room"):
            checkpoint.write(path, tensors, {"which": "new"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.read(path).metadata == {"which": "old"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_pickles_and_broken_files_are_refused(tensors, tmp_path):
    torch.save(tensors, tmp_path / "a.pt")
    torch.save(tensors, tmp_path / "disguised.safetensors")
    for name in ("a.pt", "disguised.safetensors"):
        with pytest.raises(checkpoint.PickleRefusedError, match="could run any program"):
            checkpoint.read(tmp_path / name)
    half = checkpoint.to_bytes(tensors, {})[:500]
    (tmp_path / "half.safetensors").write_bytes(half)
    for name in ("half.safetensors", "missing.safetensors"):
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.read(tmp_path / name)


def test_a_file_of_another_model_is_refused(tensors, tiny_sdxl):
    pipeline = pipeline_in(tiny_sdxl)
    with pytest.raises(checkpoint.CheckpointError, match="has no layer"):
        checkpoint.for_diffusers(pipeline, checkpoint.LoraFile(tensors, {}))


def test_metadata_says_what_it_is_and_where_it_comes_from(tensors, tmp_path):
    rows = [{"file": "char_char1_seed_966983_scenario_26_01.png", "seed": 966983, "sha256": "ab"}]
    card = LoraCard(
        title="char1",
        architecture="stable-diffusion-v1",
        trigger_phrase="char1 woman",
        resolution=(512, 768),
        thumbnail=b"\x89PNG\r\n",
        dataset="portraits",
        dataset_fingerprint="f" * 64,
        generation=rows,
        buckets={"512x768": 70},
        steps=700,
        seed=0,
        tags=("character", "portrait"),
    )
    says = metadata(card, LoraSettings(rank=16, alpha=8, rslora=True), tensors)
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, tensors, says)
    with safe_open(path, "pt") as file:
        read = file.metadata()
    assert read == says
    must = ("sai_model_spec", "architecture", "implementation", "title", "resolution")
    assert all(read[f"modelspec.{name}"] for name in must)
    assert read["modelspec.sai_model_spec"] == "1.0.1"
    assert read["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert read["modelspec.trigger_phrase"] == "char1 woman"
    assert read["modelspec.resolution"] == "512x768"
    assert read["modelspec.thumbnail"].startswith("data:image/png;base64,")
    assert (read["ss_network_dim"], read["ss_network_alpha"]) == ("16", "32.0")
    assert read["ss_base_model_version"] == "sd_v1"
    assert json.loads(read["ss_network_args"])["rslora"] is True
    assert json.loads(read["ss_bucket_info"])["buckets"]["0"]["resolution"] == [512, 768]
    assert read["ss_seed"] == "0"
    assert json.loads(read["character_curator.generation"]) == rows
    assert read["character_curator.dataset_fingerprint"] == "f" * 64
    # The hash is of the tensors' bytes, as a gallery computes it from the file.
    raw = path.read_bytes()
    content = raw[8 + int.from_bytes(raw[:8], "little") :]
    assert read["sshs_model_hash"] == hashlib.sha256(content).hexdigest()
    assert read["modelspec.hash_sha256"] == "0x" + hashlib.sha256(content).hexdigest()


def test_what_is_not_known_is_left_out():
    says = metadata(CARD, LoraSettings())
    assert all(says.values())
    assert "modelspec.author" not in says
    assert "ss_seed" not in says
