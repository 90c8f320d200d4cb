"""Models in one file on the command line: ``generate`` of a project, ``train``, and offline."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from character_curator import cli
from tests.support.single_files import save_single_file
from tests.support.tiny_denoiser import draw_image
from tests.support.train_command import command, short

PROJECT = """
[project]
name = "single"
output = "{output}"

[model]
path = "{path}"
{config}
steps = 2
width = 64
height = 64
device = "cpu"

[plan]
seeds = [1]

[[subjects]]
name = "char1"
description = "freckled woman"

[[originals]]
number = 1
name = "plain"
prompt = "smiling"
"""


@pytest.fixture
def file(tiny_sd15, tmp_path):
    return save_single_file(tiny_sd15, tmp_path / "model.safetensors")


@pytest.fixture
def config(tiny_sd15, tmp_path):
    """The folder's configurations and tokenizers, without a weight."""
    ignore = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(tiny_sd15, tmp_path / "config", ignore=ignore)


def raw_images(folder, path, config=""):
    """Run ``generate`` on a project with a model; return the images by name."""
    project = folder.with_suffix(".toml")
    said = f'config = "{config}"' if config else ""
    project.write_text(PROJECT.format(output=folder, path=path, config=said))
    assert cli.main(["generate", str(project), "--quiet"]) == 0
    return {made.name: np.asarray(Image.open(made)) for made in sorted(folder.rglob("*.png"))}


def test_a_project_generates_the_folders_images(tiny_sd15, file, config, tmp_path):
    expected = raw_images(tmp_path / "a", tiny_sd15)
    made = raw_images(tmp_path / "b", file, config)
    assert expected
    assert made.keys() == expected.keys()
    assert all(np.array_equal(made[name], image) for name, image in expected.items())


def test_the_command_trains_and_knows_it_again(file, config, tmp_path, capsys):
    dataset = tmp_path / "set"
    dataset.mkdir()
    for number in range(4):
        draw_image(dataset / f"{number}.png", number, (64, 64))
        (dataset / f"{number}.txt").write_text(f"portrait of char1 woman, scene {number}")
    arguments = [dataset, *short(file, tmp_path / "a.safetensors"), "--model-config", config]
    code, first = command(capsys, *arguments)
    assert code == 0
    assert first["steps"] == 2
    before = (tmp_path / "a.safetensors").stat().st_mtime_ns
    assert command(capsys, *arguments)[0] == 0
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == before


def test_offline_it_says_what_is_missing_and_where_to_name_it(file, tmp_path, monkeypatch, capsys):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    draw_image(tmp_path / "1.png", 1, (64, 64))
    (tmp_path / "1.txt").write_text("char1")
    options = [str(part) for part in short(file, tmp_path / "a.safetensors")]
    assert cli.main(["train", str(tmp_path), *options, "--json"]) != 0
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    assert "--model-config" in said
    assert "stable-diffusion-v1-5" in said
    assert json.dumps("Traceback") not in said
    assert not (tmp_path / "a.safetensors").exists()
