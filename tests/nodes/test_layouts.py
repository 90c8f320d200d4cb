"""Models of every layout train on the wire, and come back as they were; random weights."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.images import drawing

LAYOUTS = ("sd15", "v_prediction", "sdxl", "flux")
CAPTIONS = ("char1, a red disc", "char1, " + "a blue disc on the left, " * 20)


@pytest.fixture(scope="module")
def found(comfyui, tmp_path_factory):
    """What a process with ComfyUI's modules found."""
    folder = tmp_path_factory.mktemp("wires")
    images = folder / "pictures"
    images.mkdir()
    for number in range(5):
        size = (64, 64) if number % 2 else (128, 64)
        drawing(number, 128).resize(size).save(images / f"{number}.png")
        (images / f"{number}.txt").write_text(CAPTIONS[number % 2])
    module = "tests.support.wires.wire_training"
    done = subprocess.run(
        [sys.executable, "-m", module, str(comfyui), str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("FOUND "))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_trains_on_the_wire_with_its_text_encoders(found, layout):
    losses = found[layout]["losses"]
    assert losses[-1] < losses[0]
    assert found[layout]["inference"], "weights as a prompt loads them"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_checkpointing_changes_nothing_but_memory(found, layout):
    assert found[layout]["checkpointed"] == pytest.approx(found[layout]["losses"], rel=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_models_are_given_back_as_they_were(found, layout):
    assert found[layout]["same_values"]
    assert found[layout]["left_behind"] == []
    assert found[layout]["modes"] == 0, "in evaluation mode"
    assert found[layout]["cancelled"], "after an interrupted training too"


@pytest.mark.parametrize("kind", ["rslora", "dora", "lokr", "lokr, both", "loha"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_file_predicts_in_comfyui_what_the_adapters_predict(found, layout, kind):
    differences = found[layout]["differences"][kind]
    assert differences["file"] < 1e-3
    assert differences["effect"] > 0.05, "the adapters do something"
    assert found[layout]["said"] == [], "ComfyUI knows every key"


@pytest.mark.parametrize("layout", ["sd15", "flux"])
@pytest.mark.parametrize(("adapter", "has"), [("lokr", "lokr_w1"), ("loha", "hada_w1_a")])
def test_lycoris_trains_on_the_wire(found, layout, adapter, has):
    trained = found["lycoris"][f"{layout}, {adapter}"]
    assert trained["losses"][-1] < trained["losses"][0]
    assert has in trained["ends"]
    assert trained["continued"] < 1e-9, "a training that goes on begins with the file's weights"
    assert trained["left_behind"] == []


def test_a_lora_in_pieces_is_gone_on_from_as_the_layers_of_the_model(found):
    assert found["pieces"] < 1e-9


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "lokr", "lokr, both", "loha"])
def test_dropout_is_drawn_on_the_wire_while_it_trains_alone(found, kind):
    assert found["drops"][kind] == [True, False]


@pytest.mark.parametrize("kind", ["lora", "lokr", "lokr, both", "loha"])
def test_a_file_is_merged_into_weights_of_16_bits_as_closely_as_they_allow(found, kind):
    merged = found["bf16"][kind]
    assert merged["file"] < 3e-2
    assert merged["effect"] > 5 * merged["file"]


@pytest.mark.parametrize(
    ("layout", "beginnings"),
    [
        ("sd15", {"lora_unet_", "lora_te_"}),
        ("sdxl", {"lora_unet_", "lora_te1_", "lora_te2_"}),
        ("flux", {"lora_unet_", "lora_te1_"}),
    ],
)
def test_a_file_names_layers_as_its_architecture_is_read(found, layout, beginnings):
    names = found[layout]["names"]
    for beginning in beginnings:
        assert any(name.startswith(beginning) for name in names)
    assert all(name.startswith(tuple(beginnings)) for name in names)
    if layout != "flux":  # diffusers' names, which others read too
        assert not [name for name in names if "input_blocks" in name]


def test_weights_of_16_bits_train_and_stay_16_bits(found):
    losses = found["half"]["losses"]
    assert losses[-1] < losses[0]
    assert found["half"]["dtypes"] == ["torch.float16"]


def test_a_model_in_dynamic_vram_is_trained_as_its_own_whole_copy(found):
    dynamic = found["dynamic"]
    assert dynamic["losses"] == pytest.approx(dynamic["plain"], rel=1e-5)
    assert dynamic["losses"][-1] < dynamic["losses"][0]
    assert dynamic["same_values"]


@pytest.mark.parametrize("layout", ["sd15", "flux"])
def test_weights_that_comfyui_brings_while_they_compute_train_to_the_same_bits(found, layout):
    swapped = found["swapped"][layout]
    assert swapped["losses"] == swapped["plain"]
    assert swapped["losses"][-1] < swapped["losses"][0]
    assert swapped["same"], "the files hold the same weights"
    assert re.match(r"Block swap: \d+ layers, .* the last 2 of \d+ blocks", swapped["said"])
    assert swapped["left_behind"] == []
    assert swapped["same_values"]


def test_an_edit_model_is_trained_with_control_images(found):
    edits = found["edits"]
    assert edits["losses"][0] != pytest.approx(edits["without"][0], rel=1e-5)
    assert edits["losses"][-1] < edits["losses"][0]
    assert "control images, told as the node ReferenceLatent tells them" in edits["said"]


def test_a_lora_can_be_trained_on_top_of_another_under_autocast(found):
    stacked = found["stacked"]
    assert stacked["losses"][-1] < stacked["losses"][0]
    assert stacked["losses"][0] != pytest.approx(stacked["without"][0], rel=1e-3)
    assert stacked["same_values"]


@pytest.mark.parametrize("part", ["latents", "text", "prediction", "loss", "snr", "gradient"])
def test_the_miniature_is_the_same_denoiser_on_the_wire_as_in_diffusers(found, part):
    assert found["miniature"][part] < 1e-3


def test_both_denoisers_draw_the_same_timesteps_and_adapt_the_same_layers(found):
    compared = found["miniature"]
    assert compared["same_draws"]
    assert compared["same_fixed"]
    assert compared["same_facts"]
    one, other = compared["layers"]
    assert one == other > 10
