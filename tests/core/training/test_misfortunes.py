"""A training that meets with misfortune half-way: the command says so and keeps what was good."""

from __future__ import annotations

import json
import subprocess

import pytest
import torch

from character_curator import cli
from character_curator.lora import file as lora_file
from tests.support.tiny_denoiser import draw_image


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number, size in enumerate(((64, 64), (96, 64), (64, 96), (80, 80), (64, 64))):
        draw_image(folder / f"p{number}.png", number, size)
        (folder / f"p{number}.txt").write_text(f"portrait of char1 woman, scene {number}")
    return folder


@pytest.fixture
def train(dataset, tiny_sd15, capsys):
    def run(output, *more):
        arguments = [
            "train", dataset, "--base", tiny_sd15, "--output", output, "--rank", 8, "--batch", 4,
            "--resolution", 64, "--bucket-step", 16, "--validation-timesteps", 1, "--no-samples",
            "--device", "cpu", *more, "--json", "--quiet",
        ]  # fmt: skip
        code = cli.main([str(argument) for argument in arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_loss_that_becomes_no_number_ends_at_the_last_good_weights(train, tmp_path):
    output = tmp_path / "a.safetensors"
    # Decay that overshoots lets the weights grow tenfold a step, until float32 overflows.
    code, told = train(output, "--lr", 0.01, "--weight-decay", 1200, "--epochs", 60)
    assert code == 1
    assert told["stopped"] == "diverged"
    assert f"The weights of epoch {told['kept_epoch']} are kept" in told["message"]
    assert "learning rate" in told["message"]
    assert 1 <= told["kept_epoch"] <= told["epochs"] < 60
    file = lora_file.read(output)
    assert all(torch.isfinite(value).all() for value in file.tensors.values())
    assert file.metadata["ss_num_epochs"] == str(told["kept_epoch"])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only the administrator of a Linux machine may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder, left):
    """Write a file that leaves ``left`` bytes free; return it."""
    import shutil

    ballast = folder / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(folder).free - left))
    return ballast


@pytest.mark.parametrize("left", [0, 150_000])
def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(train, small_disk, tmp_path, left):
    output = small_disk / "a.safetensors"
    common = ("--lr", 0.01, "--epochs")
    assert train(output, *common, 2)[0] == 0
    kept = {path: path.read_bytes() for path in small_disk.glob("**/*.safetensors")}
    assert output in kept
    kept.pop(small_disk / "a.work" / "best.safetensors")  # a better one may still find room
    ballast = fill(small_disk, left)
    code, told = train(output, *common, 4)
    assert code == 2
    assert told["error"] in ("StateWriteError", "FeatureStoreError")
    assert {path: path.read_bytes() for path in kept} == kept
    ballast.unlink()
    code, told = train(output, *common, 4)
    assert (code, told["epochs"]) == (0, 4)
    undisturbed = tmp_path / "elsewhere" / "a.safetensors"
    assert train(undisturbed, *common, 4)[0] == 0
    assert output.read_bytes() == undisturbed.read_bytes()


def test_a_model_of_an_unknown_kind_is_refused(train, tiny_sd15, tmp_path):
    import shutil

    model = shutil.copytree(tiny_sd15, tmp_path / "model")
    index = json.loads((model / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionUpscalePipeline"
    (model / "model_index.json").write_text(json.dumps(index))
    code, told = train(tmp_path / "a.safetensors", "--base", model)
    assert code == 2
    assert told["error"] in ("ModelNotFoundError", "UnknownModelError")
    assert "StableDiffusionUpscale" in told["message"] or str(model) in told["message"]


def test_one_image_can_be_trained_on_if_nothing_is_held_out(train, dataset, tmp_path):
    for path in dataset.glob("p[1-9].*"):
        path.unlink()
    output = tmp_path / "a.safetensors"
    assert train(output)[1]["error"] == "TooFewImagesError"
    code, told = train(output, "--validation-share", 0, "--steps", 2)
    assert (code, told["steps"], told["best_validation_loss"]) == (0, 2, None)
