"""A server goes on after what would have ended it, and says in words what was wrong."""

import os
import subprocess
import sys

import pytest

from tests.support.comfyui.graphs import NAMES, generation, node, plan, stock
from tests.support.comfyui.random_lora import random_lora
from tests.support.comfyui.server import ROOT, files, own_packages


def asked(number, entry):
    return {number: entry, "90": stock("PreviewAny", source=[number, 0])}


@pytest.mark.parametrize(
    ("widgets", "says"),
    [
        ({"seeds": "1\ud800"}, "half of a character"),
        ({"description": "a\udcff"}, "half of a character"),
        ({"seeds": "y" * 90_000}, "neither a number nor a range"),
        ({"seeds": "y" * 1_000_000}, "has 1,000,000 letters"),
        ({"plan_file": "x" * 300}, "no path that can be used"),
        ({"plan_file": "a\ud800.toml"}, "no path that can be used"),
    ],
    ids=["half", "other half", "long", "too long", "long name", "half a name"],
)
def test_a_text_that_no_terminal_takes_ends_a_graph_and_not_the_server(server, widgets, says):
    run = server.wait(server.queue(asked("1", plan(**widgets))), 60)
    assert run.status == "error"
    assert says in run.error or "half of a character" in run.error
    assert len(run.error) < 5000
    assert server.run(asked("1", plan(seeds="1"))).outputs


def test_a_file_whose_name_is_no_text_is_named_in_an_error(server):
    folder = server.base / "input" / "odd"
    folder.mkdir()
    (folder / "a\udcff.png").write_bytes(b"no image")
    graph = {
        "1": node("LoadImageSet", folder="odd"),
        "2": node("ImageSetToImages", images=["1", 0], which="all", first=0, count=1),
        "90": stock("PreviewAny", source=["2", 0]),
    }
    run = server.wait(server.queue(graph), 60)
    assert run.status == "error"
    run.error.encode()
    assert server.run(asked("1", plan(seeds="1"))).outputs


def test_values_that_are_no_numbers_are_an_error_and_no_black_images(server):
    graph = generation("numbers", steps=1, limit=1, plan_widgets={"seeds": "1"})
    graph["4"] = stock(
        "LoraLoader", model=["1", 0], clip=["1", 1], lora_name=random_lora(server, 64, 1e30),
        strength_model=1.0, strength_clip=0.0,
    )  # fmt: skip
    graph["3"]["inputs"]["model"] = ["4", 0]
    run = server.wait(server.queue(graph), 120)
    assert run.status == "error"
    assert "The model gives values that are no numbers (NaN)" in run.error
    assert files(server.base / "output" / "numbers") == []


def tried(comfyui, folder, *arguments):
    """Run the driver of every node; return what it finds wrong, and how many values it tried."""
    command = [
        sys.executable, "-m", "tests.support.comfyui.every_node", str(comfyui), str(folder),
        *arguments,
    ]  # fmt: skip
    environment = {**os.environ, **own_packages(), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return lines[:-1], int(lines[-1].removeprefix("TRIED "))


def test_values_of_every_widget_are_answered(comfyui, tmp_path):
    """One value of each widget; a named error each, or a result, but for a planted fault."""
    wrong, count = tried(comfyui, tmp_path, "--sample", "--planted", "ContactSheet")
    assert [line for line in wrong if "a planted fault" not in line] == []
    assert "ValueError: planted" in wrong[-1]
    assert count > 400


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_hostile_value_is_answered(comfyui, tmp_path, name):
    """A test a node, so that those that failed can be run alone (``-k TrainLoRA``)."""
    wrong, _ = tried(comfyui, tmp_path, name)
    assert wrong == []


def test_a_dataset_outside_of_the_folders_is_refused(server):
    """What the file says in the place of the wire is taken by no check of ComfyUI's."""
    graph = {
        "1": node("LoadMiniature"),
        "2": node("Verify", dataset="/etc", lora_name="", folder="char1/verification",
                  regenerate=0, samples=1, steps=1, cfg=1.0, sampler_name="euler",
                  scheduler="normal", width=64, height=64),
    }  # fmt: skip
    run = server.wait(server.queue(graph), 60)
    assert run.status == "error"
    assert "'/etc' is outside the folders that a graph may use" in run.error
