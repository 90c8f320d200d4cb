"""Every family that a KSampler takes is trained as it samples."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.wires.families import FAMILIES

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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_unequal_prompts_is_sampled_in_the_wanted_size(facts):
    assert facts["images"] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_stock_nodes(facts):
    assert facts["stock"] == 0, "pixel for pixel"


@pytest.mark.parametrize("family", UNCHANGED)
def test_unets_and_flux_keep_their_layers(facts):
    assert facts["named_as_ever"]
