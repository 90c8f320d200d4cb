"""ComfyUI's own code makes of a LoRA file what was trained."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from character_curator.lora import file as lora_file
from character_curator.lora import names as layer_names
from character_curator.lora.adapters import LoraSettings
from tests.support.lora_weights import KINDS, kohya, kohya_xl, pipeline_in, trained
from tests.support.tiny_models import sd15_unet, sdxl_unet
from tests.support.tiny_outputs import (
    distance,
    flux_inputs,
    run_clip,
    run_flux,
    run_unet,
    sdxl_inputs,
    unet_inputs,
)


def of_random_weights(make):
    """Return a UNet that ComfyUI can hold, too: it norms in 32 groups."""
    torch.manual_seed(0)
    return make(channels=(32, 64), groups=32).eval()


def trained_copy(module, settings, part):
    module = copy.deepcopy(module)
    return module, trained({part: module}, settings)


@pytest.fixture(scope="module")
def in_comfyui(comfyui, tiny_flux, tiny_sd15, tmp_path_factory):
    """Write files for all models and kinds; return what was trained and what ComfyUI makes of it.

    One process for all: importing ComfyUI is what takes the time.
    """
    folder = tmp_path_factory.mktemp("comfyui")
    flux = pipeline_in(tiny_flux).transformer
    encoder = pipeline_in(tiny_sd15).text_encoder
    sd15, sdxl = of_random_weights(sd15_unet), of_random_weights(sdxl_unet)
    tokens = {"tokens": torch.arange(20, 97).reshape(1, 77) % 200}
    models = {
        "sd15": (sd15, unet_inputs(), run_unet, kohya, "denoiser"),
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
            lora_file.write(path, lora_file.tensors_of(adapters, file_key), {})
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
                    "layers": len(lora_file.read(path).names),
                }
            )
            adapters.remove()
            with torch.no_grad():
                assert distance(run(learner, inputs), expected[-1]) > 0.01
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).parents[2] / "support" / "comfyui_lora.py"
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
