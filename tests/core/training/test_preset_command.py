"""The command takes what suits the model, says so, and gives way to what is set."""

from __future__ import annotations

import json

import pytest

from character_curator import cli
from character_curator.lora import file as lora_file
from tests.support.tiny_denoiser import make_dataset
from tests.support.train_command import command, short


def settings_in(path):
    return json.loads(lora_file.read(path).metadata["character_curator.settings"])


def test_the_model_is_read_and_what_is_set_goes_before(tiny_sdxl, tmp_path, capsys):
    output = tmp_path / "a.safetensors"
    code, said = command(capsys, make_dataset(tmp_path / "set"), *short(tiny_sdxl, output))
    assert code == 0
    assert said["preset"]["from_preset"] == {
        "alpha": 2.0, "timestep_sampling": "uniform", "min_snr_gamma": 5.0,
    }  # fmt: skip
    assert said["preset"]["set"]["rank"] == 2
    assert "SDXL" in said["preset"]["origin"]
    written = settings_in(output)
    assert (written["min_snr_gamma"], written["rank"], written["alpha"]) == (5.0, 2, 2.0)


@pytest.mark.parametrize("options", [["--preset", "default"], ["--preset", "seed-document"]])
def test_a_named_preset_does_not_look_at_the_model(options, tiny_sdxl, tmp_path, capsys):
    output = tmp_path / "a.safetensors"
    line = [make_dataset(tmp_path / "set"), *short(tiny_sdxl, output), *options]
    code, said = command(capsys, *line)
    assert code == 0
    assert said["preset"]["from_preset"] == {}
    assert settings_in(output)["min_snr_gamma"] is None


def test_the_first_line_says_it_to_a_person(tiny_sdxl, tmp_path, capsys):
    line = [make_dataset(tmp_path / "set"), *short(tiny_sdxl, tmp_path / "a.safetensors")]
    assert cli.main(["train", *map(str, line)]) == 0
    captured = capsys.readouterr()
    said = " ".join(f"{captured.out} {captured.err}".split())
    assert "Settings: preset of SDXL (read from the layout of its weights): alpha 2" in said
    assert "The file says that it is for SDXL (sdxl_base_v1-0)" in said


def test_a_flows_timesteps_are_refused_before_anything_is_encoded(tiny_sdxl, tmp_path, capsys):
    line = [make_dataset(tmp_path / "set"), *short(tiny_sdxl, tmp_path / "a.safetensors")]
    assert cli.main(["train", *map(str, line), "--timestep-shift", "2"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "this one predicts epsilon" in said
    assert not (tmp_path / "a.safetensors").exists()


def test_a_shift_reaches_every_step_of_a_flow(tiny_flux, tmp_path, monkeypatch, capsys):
    from character_curator.training.denoisers.flow import FlowDenoiser

    seen = []
    plain = FlowDenoiser.add_noise
    monkeypatch.setattr(
        FlowDenoiser,
        "add_noise",
        lambda self, latents, noise, times: (
            seen.append(times.mean()) or plain(self, latents, noise, times)
        ),
    )
    means = []
    for shift in ("1", "50"):
        seen.clear()
        line = [
            make_dataset(tmp_path / f"set{shift}"),
            *short(tiny_flux, tmp_path / "a.safetensors"),
        ]
        options = ["--preset", "default", "--timestep-shift", shift, "--restart"]
        assert command(capsys, *line, *options)[0] == 0
        means.append(float(sum(seen) / len(seen)))
    assert means[0] < 800 < 900 < means[1]
