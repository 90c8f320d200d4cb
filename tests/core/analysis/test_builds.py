"""Builds that were installed over each other are named, and nothing else is."""

import os
import subprocess
import sys

import pytest

from character_curator.analysis import builds

BOTH = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0"}
CPU = ["AzureExecutionProvider", "CPUExecutionProvider"]
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, before all others; call it to install one."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, number):
        folder = tmp_path / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        )

    return install


def test_two_builds_of_opencv_in_one_folder_are_named_with_their_versions(site):
    site("opencv-python", "5.0.0")
    site("opencv-python-headless", "4.9.0")
    fault = builds.opencv_fault(builds.installed_versions(builds.OPENCV))
    assert "opencv-python 5.0.0, opencv-python-headless 4.9.0" in fault
    assert "uninstall -y opencv-python opencv-python-headless" in fault
    assert fault.endswith("install opencv-python")


def test_one_build_of_opencv_is_right(site):
    site("opencv-contrib-python", "5.0.0")
    installed = {"opencv-contrib-python": "5.0.0"}
    assert builds.installed_versions(builds.OPENCV[2:]) == installed
    assert builds.opencv_fault(installed) is None


def test_the_cpu_build_over_the_gpu_build_is_named_where_there_is_a_card(site):
    for name, number in BOTH.items():
        site(name, number)
    installed = builds.installed_versions((builds.CPU_BUILD, builds.GPU_BUILD))
    assert installed == BOTH
    fault = builds.onnxruntime_fault(installed, 1, CPU)
    assert "onnxruntime 1.32.0 was installed over onnxruntime-gpu 1.31.0" in fault
    assert fault.endswith("install onnxruntime-gpu")


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({"onnxruntime": "1.32.0"}, "is the build for CPUs"),
        ({"onnxruntime-gpu": "1.32.0"}, "does not find CUDA's libraries"),
    ],
)
def test_a_card_that_is_not_used_has_its_reason(installed, said):
    assert said in builds.onnxruntime_fault(installed, 2, CPU)


@pytest.mark.parametrize(
    ("installed", "cards", "providers"),
    [(BOTH, 0, CPU), (BOTH, 1, CUDA), ({}, 1, CPU)],
    ids=["no card", "the card is used", "a build of another name"],
)
def test_nothing_is_said_where_nothing_can_be_mended(installed, cards, providers):
    assert builds.onnxruntime_fault(installed, cards, providers) is None


def test_the_card_is_asked_of_the_driver_without_torch():
    code = (
        "import sys; from character_curator.analysis import builds; n = builds.cuda_cards(); "
        "assert 'torch' not in sys.modules; print(n)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import torch

    if torch.version.hip is None:
        assert int(done.stdout) == torch.cuda.device_count()


def test_a_command_that_looks_for_faces_says_first_what_is_wrong(site, tmp_path):
    site("opencv-python", "5.0.0")
    site("opencv-python-headless", "4.9.0")
    command = [sys.executable, "-m", "character_curator", "curate", str(tmp_path / "nothing")]
    command += ["--output", str(tmp_path / "set")]
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(tmp_path)
    ).stderr.replace("\n", "")
    assert "Several builds of OpenCV" in said.replace("  ", " ")
    assert said.index("Several builds") < said.index("nothing")


def _environment(folder):
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
