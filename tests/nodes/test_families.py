"""Every family that a KSampler takes is trained as it samples."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wires.families import FAMILIES
from tests.support.wires.family_readers import ABSENT, READERS

OWN_NAMES = ("Lumina 2", "Cosmos-Predict2")
"""Families of which diffusers takes its own names alone, which ComfyUI does not know."""
UNCHANGED = ("SD 1.5", "SD 1.5, v", "SDXL", "SDXL, v", "Flux.1")


@pytest.fixture(scope="module")
def measured(comfyui):
    """What a process with ComfyUI's modules found, a family a key."""
    module = "tests.support.wires.family_table"
    done = subprocess.run(
        [sys.executable, "-m", module, "--json", "--comfyui", str(comfyui)],
        cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("FOUND "))


@pytest.fixture
def facts(measured, family):
    """What holds of a family."""
    if "absent" in measured[family]:
        pytest.skip(f"no {family} in this ComfyUI: {measured[family]['absent']}")
    return measured[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_trained_as_it_samples(facts, family):
    assert all(map(math.isfinite, facts["losses"]))
    assert len(facts["losses"]) == 3
    assert facts["told"] == [], "in training the model is told what sampling tells it"
    assert facts["edits"] == [], "of control images too, and they matter"
    assert facts["target"] < 1e-4, "the target leads to the clean latents"
    # Where activations are rounded too, the loss has steps, and rows share what they round by.
    rounded = bool(getattr(FAMILIES[family], "quantised", ""))
    assert abs(facts["gradient"]) < (1e-2 if rounded else 2e-3), "the gradient is the loss's"
    assert facts["batch"] < (1e-2 if rounded else 1e-5), "rows of a batch do not see each other"
    assert facts["unexplained"] == [], "every adapter learns"
    assert facts["left_behind"] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_predicts_from_the_file_what_it_did_in_training(facts, family):
    assert facts["unloaded"] == [], "the stock loader knows every key"
    # The stock loader rounds quantised weights with a LoRA in them once more.
    assert facts["file"] < (3e-2 if getattr(FAMILIES[family], "quantised", "") else 1e-5)
    assert facts["effect"] > 0.05, "the adapters do something"
    assert facts["adapted"] >= facts["linear"] / 2


@pytest.mark.parametrize("family", READERS)
def test_diffusers_reads_the_file(facts, family):
    own = 'with `file_spelling = "diffusers"`'
    assert facts["diffusers"] == (own if family in OWN_NAMES else "yes")
    assert facts["unknown_to_comfyui"] == (["diffusers"] if family in (*OWN_NAMES, "Anima") else [])


@pytest.mark.parametrize("family", ABSENT)
def test_it_is_said_why_diffusers_does_not_read_the_file(facts, family):
    assert facts["diffusers"] == f"no: {ABSENT[family]}"
    assert facts["unknown_to_comfyui"] == []


def test_there_is_a_word_on_every_family_and_diffusers():
    assert sorted([*READERS, *ABSENT]) == sorted(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_header_names_the_model_and_its_layers(facts):
    assert facts["header"]["family"]
    assert facts["header"]["strange"] == []
    assert "to_add_out" not in facts["header"]["targets"], "a name of a model, not of a preset"


def test_flows_timesteps_are_for_flows_alone(measured):
    there = {name: facts["header"] for name, facts in measured.items() if "absent" not in facts}
    assert there["Flux.1"]["from_preset"]["resolution_shift"] == "flux"
    assert there["Qwen-Image"]["from_preset"]["timestep_shift"] == 2.2
    shifted = {name for name, said in there.items() if "shift" in str(said["from_preset"])}
    assert not shifted & {"SD 1.5", "SD 1.5, v", "SDXL", "SDXL, v", "PixArt Alpha", "PixArt Sigma"}


def test_families_have_names_of_their_own(measured):
    same = [{"SD 1.5", "SD 1.5, v"}, {"SDXL", "SDXL, v"}, {"Flux.1", "Flux.1 Kontext"},
            {name for name in FAMILIES if name.startswith("Qwen-Image")}]  # fmt: skip
    there = {name: facts for name, facts in measured.items() if "absent" not in facts}
    for one, facts in there.items():
        for other in there:
            if one != other and not any({one, other} <= group for group in same):
                assert facts["header"]["version"] != there[other]["header"]["version"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_unequal_prompts_is_sampled_in_the_wanted_size(facts):
    assert facts["images"] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_and_evaluated_images_have_the_wanted_size(facts):
    assert facts["sizes"] == [], "whatever a latent cell is"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_stock_nodes(facts):
    assert facts["stock"] == 0, "pixel for pixel"


@pytest.mark.parametrize("family", UNCHANGED)
def test_unets_and_flux_keep_their_layers(facts):
    assert facts["named_as_ever"]
