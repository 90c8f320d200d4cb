"""Threads of the command line's process soon sleep when they wait; others' are left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SAY = "print('policy', os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


def _turns(code: str, **environment: str) -> list[str]:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys; {code}; {_SAY}"],
        env=clean | environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].split()[1:]


_OWN = "sys.argv[1:] = ['miniature', 'where']; from character_curator.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "environment", "turns"),
    [
        pytest.param(_OWN, {}, "3000", id="the command line's process"),
        pytest.param(_OWN, {"GOMP_SPINCOUNT": "7"}, "7", id="the user's own number"),
        pytest.param(_OWN, {"OMP_WAIT_POLICY": "ACTIVE"}, "None", id="the user's own policy"),
        pytest.param(
            "from character_curator.cli import main; main(['miniature', 'where'])", {}, "None",
            id="a program that calls the command line",
        ),
        pytest.param("import character_curator", {}, "None", id="a program that imports us"),
    ],
)  # fmt: skip
def test_only_the_own_process_is_told_how_long_to_spin(code, environment, turns):
    assert _turns(code, **environment) == [turns, "False"]


def test_it_says_when_it_comes_too_late():
    code = (
        "import torch; from character_curator.cli.threads import spin_briefly; "
        "assert not spin_briefly()"
    )
    assert _turns(code) == ["None", "True"]


def _decoded(code: str, tmp_path, **environment: str) -> str:
    from PIL import Image

    Image.new("P", (400, 2)).save(tmp_path / "a.tif")
    clean = {key: value for key, value in os.environ.items() if key != "OPENCV_LOG_LEVEL"}
    read = f"import cv2; cv2.imread({str(tmp_path / 'a.tif')!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; {read}"],
        env=clean | environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stderr


def test_opencv_says_nothing_while_the_command_line_decodes(tmp_path):
    assert "TIFF_Warning" not in _decoded(_OWN, tmp_path)
    assert "TIFF_Warning" in _decoded("import character_curator", tmp_path)
    assert "TIFF_Warning" in _decoded(_OWN, tmp_path, OPENCV_LOG_LEVEL="WARNING")
