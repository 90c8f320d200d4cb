"""The miniature is the same model in ComfyUI as in diffusers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def differences(comfyui):
    module = "tests.support.wires.miniature_in_comfyui"
    done = subprocess.run(
        [sys.executable, "-m", module, str(comfyui)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("FOUND "))


@pytest.mark.parametrize(
    ("part", "tolerance"),
    [("text", 1e-4), ("unet", 1e-4), ("sigmas", 1e-3), ("encoded", 1e-4), ("decoded", 1e-4)],
)
def test_a_model_computes_what_it_computes_in_diffusers(differences, part, tolerance):
    assert differences[part] <= tolerance


def test_comfyui_can_copy_it_with_weights_of_its_own(differences):
    assert differences.get("copy", 0.0) == 0.0  # the oldest ComfyUI makes no such copies
