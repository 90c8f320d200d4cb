"""What identifies a model does not depend on what ComfyUI has loaded, and changes none of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found(comfyui):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.wires.identities", str(comfyui)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("FOUND "))


@pytest.mark.parametrize("way", ["whole", "in_place", "in_part", "by_a_hook"])
def test_a_loaded_model_has_the_identity_of_its_file_and_stays_loaded(found, way):
    assert found[way] == {
        "differ": True,
        "patched": True,
        "same": True,
        "still_loaded": True,
        "untouched": True,
        "restored": True,
    }
