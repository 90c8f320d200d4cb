"""From a folder of images to a LoRA file: commands, project files, and what goes wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from safetensors import safe_open

from character_curator import cli, project, project_training
from character_curator.dataset.facts import (
    DatasetFacts,
    SubjectFacts,
    facts_json,
    read_facts,
    without_trigger,
)
from character_curator.lora.header import read_header
from character_curator.options import options
from character_curator.training import (
    Callbacks,
    LoraJob,
    SampleSettings,
    TrainingSettings,
    joined,
    train_lora,
)
from character_curator.training.outputs.plot import write_plot
from character_curator.training.result import EpochReport, history_table
from tests.support.full_disk import disk_that_fills
from tests.support.tiny_denoiser import make_dataset
from tests.support.train_command import command, short

SETTINGS = TrainingSettings(
    rank=2, alpha=2.0, steps=4, batch_size=2, learning_rate=1e-2, resolution=64, bucket_step=16,
    validation_share=0.3, validation_timesteps=2, sample_every=1, checkpoint_every=1,
)  # fmt: skip
SAMPLES = SampleSettings(prompts=("char1 smiling", "char1 in a park"), steps=2)


def describe(folder):
    """Add what an export would say of a generated set."""
    metadata = {
        f"p{i}.png": {
            "subject": "char1", "seed": 966983, "type": "scenario", "scenario": i, "take": 1,
            "noise_seed": 1000 + i, "request": "ab" * 32, "quality_score": 0.9,
            "generation": {"settings": {"model_fingerprint": "cd" * 32}},
        }
        for i in range(3)
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(metadata))
    subject = SubjectFacts("char1", "char1", "woman", images=3)
    facts = DatasetFacts("set", license="apache-2.0", subjects=(subject,))
    (folder / "facts.json").write_text(facts_json(facts))


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_sd15):
    root = tmp_path_factory.mktemp("trained")
    describe(make_dataset(root / "set"))
    job = LoraJob(root / "set", root / "out" / "char1.safetensors", base=tiny_sd15, samples=SAMPLES)
    return job, train_lora(job, SETTINGS, score=lambda checkpoint: -checkpoint.epoch)


def test_a_run_leaves_file_plot_samples_and_checkpoints(trained):
    job, result = trained
    names = {path.name for path in job.output.parent.iterdir()}
    assert names >= {
        "char1.safetensors", "char1.loss.svg", "char1.loss.png", "char1.samples.png", "char1.work",
        "char1-epoch0001.safetensors", "char1-epoch0002.safetensors",
    }  # fmt: skip
    assert result.training.steps == 4
    assert [c.epoch for c in result.checkpoints] == [1, 2]
    losses = {c.epoch: c.validation_loss for c in result.checkpoints}
    assert result.by_validation.epoch == min(losses, key=losses.get)
    assert result.by_evaluation.epoch == 1  # the score prefers the first
    assert result.kept == result.by_validation
    with Image.open(job.beside(".samples.png")) as sheet:
        assert sheet.height > 3 * 160  # before training, and two epochs
    assert "<polyline" in job.beside(".loss.svg").read_text()


def test_the_header_tells_trigger_thumbnail_and_seeds(trained):
    job, result = trained
    found = header(job.output)
    assert found["modelspec.trigger_phrase"] == "char1"
    assert found["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    assert found["modelspec.license"] == "apache-2.0"
    assert found["character_curator.dataset_fingerprint"] == result.facts.fingerprint
    chain = json.loads(found["character_curator.generation"])
    assert len(chain) == 5
    first = next(row for row in chain if row["file"] == "p0.png")
    assert first["noise_seed"] == 1000
    assert first["seed"] == 966983
    assert first["model"] == "cd" * 32
    assert sum(row.get("held_out", False) for row in chain) == len(result.training.held_out)


def test_every_file_tells_the_validation_loss_of_its_own_weights(trained):
    job, result = trained
    history = dict(result.training.history.select("epoch", "validation_loss").iter_rows())
    assert history[1] != history[2]
    for checkpoint in result.checkpoints:
        assert read_header(header(checkpoint.file)).validation_loss == history[checkpoint.epoch]
    kept = read_header(header(job.output))
    assert kept.validation_loss == history[result.kept.epoch]
    assert kept.trigger_phrase == "char1"


def test_without_validation_no_file_tells_a_validation_loss(trained, tmp_path):
    job, _ = trained
    other = replace(job, output=tmp_path / "char1.safetensors", samples=None)
    result = train_lora(other, SETTINGS.replace(validation_share=0.0))
    assert [read_header(header(c.file)).validation_loss for c in result.checkpoints] == [None, None]
    assert "character_curator.validation_loss" not in header(other.output)


def test_the_same_job_writes_the_same_bytes_again(trained, tmp_path):
    job, _ = trained
    before = job.output.read_bytes()
    train_lora(job, SETTINGS)
    assert job.output.read_bytes() == before
    anew = replace(job, output=tmp_path / "char1.safetensors")
    train_lora(anew, SETTINGS)
    assert anew.output.read_bytes() == before


def test_evaluation_may_choose(trained, tmp_path):
    job, _ = trained
    other = replace(job, output=tmp_path / "char1.safetensors", samples=None)
    result = train_lora(other, SETTINGS, score=lambda c: c.epoch, prefer="evaluation")
    assert result.kept.epoch == result.by_evaluation.epoch == 2
    assert header(other.output)["ss_num_epochs"] == "2"
    assert result.samples is None


def test_the_file_loads_and_changes_the_image(trained, tiny_sd15):
    from character_curator.generation.diffusers_backend import DiffusersBackend
    from character_curator.plan import Request

    job, _ = trained
    request = Request("a", 1, "scenario", 1, 1, "", "", "char1 smiling", "", "", 7)
    options = {"steps": 2, "width": 64, "height": 64}
    plain = DiffusersBackend(tiny_sd15, **options).sample([request])
    drawn = DiffusersBackend(tiny_sd15, loras=[(job.output, 1.0)], **options).sample([request])
    assert not np.array_equal(plain, drawn)


def test_the_command_trains(capsys, tmp_path, tiny_sd15):
    folder = make_dataset(tmp_path / "set")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "broken.txt").write_text("char1")
    (folder / "silent.png").write_bytes((folder / "p0.png").read_bytes())
    output = tmp_path / "x.safetensors"
    arguments = [*short(tiny_sd15, output), "--targets", "to_q,to_v", "--dora", "--trigger", "zoe"]
    code, told = command(capsys, folder, *arguments)
    assert code == 0
    assert told["steps"] == 2
    assert {s["file"] for s in told["skipped"]} == {"broken.png", "silent.png"}
    assert "do not have the trigger word 'zoe'" in told["warnings"][0]
    assert Path(told["plot"]).exists()
    found = header(output)
    assert json.loads(found["character_curator.settings"])["dora"] is True
    assert found["modelspec.trigger_phrase"] == "zoe"


def test_a_dora_file_may_be_one_for_every_reader(capsys, tmp_path, tiny_sd15):
    from character_curator.lora import file as lora_file

    folder, sizes = make_dataset(tmp_path / "set"), {}
    for form in ("dora_scale", "folded"):
        output = tmp_path / f"{form}.safetensors"
        arguments = [*short(tiny_sd15, output), "--targets", "to_q", "--dora"]
        assert command(capsys, folder, *arguments, "--dora-file", form)[0] == 0
        assert lora_file.read(output).is_dora is (form == "dora_scale")
        sizes[form] = output.stat().st_size
    assert sizes["folded"] > sizes["dora_scale"]


def test_every_setting_is_an_option():
    from character_curator.cli.training import settings_of

    values = {
        "rank": 3, "alpha": 5.0, "targets": ("to_k", "to_q"), "optimizer": "prodigy", "steps": 7,
        "betas": (0.5, 0.6), "precision": "bf16", "clip_norm": None, "ema_decay": 0.5, "seed": 9,
        **{option.name: True for option in options(TrainingSettings) if option.kind == "flag"},
    }  # fmt: skip
    line = ["train", "set", "--base", "x", "--output", "y.safetensors", "--preset", "seed-document"]
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line += [option]
        elif name == "targets":
            line += [option, ",".join(value)]
        else:
            parts = value if isinstance(value, tuple) else (value,)
            line += [option, *(str(part).lower() for part in parts)]
    given = cli.parser().parse_args(line)
    assert settings_of(given) == TrainingSettings.from_mapping(values, "seed-document")
    for name in TrainingSettings().to_mapping():
        assert hasattr(given, name)


@pytest.mark.parametrize(
    ("gone", "change", "error", "words"),
    [
        ("*.txt", [], "NoCaptionsError", "text file"),
        ("p[1-9].png", [], "TooFewImagesError", "1 usable"),
        ("*.png", [], "TooFewImagesError", "0 usable"),
        (None, ["--base", "nowhere/at/all"], "ModelNotFoundError", "no model at"),
        (None, ["--base", "SET"], "ModelNotFoundError", "model_index.json"),
        (None, ["--output", "x.pt"], "OutputNameError", ".safetensors"),
        (None, ["--rank", "0"], "SettingsError", "rank is 0"),
        (None, ["--bucket-step", "5"], "SettingsError", "multiple of"),
        (None, ["--targets", "nothing,here"], "AdapterError", "no layer"),
        (None, ["--start", "old.pt"], "PickleRefusedError", "--allow-pickle"),
        (None, ["--lr", "1e30", "--clip-norm", "none"], "DivergedError", "learning rate"),
    ],
)  # fmt: skip
def test_bad_input_is_named(capsys, tmp_path, tiny_sd15, monkeypatch, gone, change, error, words):
    monkeypatch.chdir(tmp_path)
    folder = make_dataset(tmp_path / "set")
    torch.save({"a": torch.zeros(1)}, tmp_path / "old.pt")
    for path in folder.glob(gone) if gone else ():
        path.unlink()
    change = [str(folder) if part == "SET" else part for part in change]
    code, told = command(capsys, folder, *short(tiny_sd15, tmp_path / "x.safetensors"), *change)
    assert code == 2
    assert told["error"] == error
    assert words in told["message"]


def test_weights_that_are_pickles_are_refused_unless_asked_for(capsys, tmp_path, tiny_sd15):
    import shutil

    model = shutil.copytree(tiny_sd15, tmp_path / "model")
    from safetensors.torch import load_file

    weights = next((model / "unet").glob("*.safetensors"))
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    folder = make_dataset(tmp_path / "set")
    arguments = [folder, *short(model, tmp_path / "x.safetensors")]
    code, told = command(capsys, *arguments)
    assert (code, told["error"]) == (2, "PickleRefusedError")
    code, told = command(capsys, *arguments, "--allow-pickle")
    assert code == 0


def test_a_header_of_any_length_is_no_pickle(tmp_path):
    from character_curator.lora import file as lora_file

    for length in range(0, 256, 8):  # the first byte of a file is the length's last
        path = tmp_path / f"{length}.safetensors"
        lora_file.write(path, {"a": torch.zeros(1)}, {"filler": "x" * length})
        assert lora_file.read(path).metadata["filler"] == "x" * length


def test_a_full_disk_leaves_the_file_that_was_there(trained, tmp_path):
    from character_curator.errors import CuratorError

    job, _ = trained
    copy = replace(job, output=tmp_path / "char1.safetensors", samples=None)
    train_lora(copy, SETTINGS)
    before = copy.output.read_bytes()
    with disk_that_fills() as fill:

        def on_epoch(report):
            if report.epoch == 3:
                fill()

        with pytest.raises(CuratorError, match=r"cannot be written|can't be written"):
            train_lora(copy, SETTINGS.replace(steps=8), callbacks=Callbacks(on_epoch=on_epoch))
    assert copy.output.read_bytes() == before
    assert train_lora(copy, SETTINGS.replace(steps=8)).training.steps == 8


def test_a_project_trains_and_draws(tmp_path, tiny_sd15):
    folder = make_dataset(tmp_path / "set")
    text = f"""
source = "set"
[project]
name = "small"
output = "out"
[model]
path = "{tiny_sd15}"
steps = 2
width = 64
height = 64
[training]
preset = "seed-document"
steps = 2
resolution = 64
bucket_step = 16
validation_timesteps = 1
prompts = ["char1 smiling"]
"""
    parsed = project.parse(text)
    lora = project_training.train(parsed, folder, tmp_path)
    assert lora.file == tmp_path / "out" / "lora" / "small.safetensors"
    assert json.loads(header(lora.file)["character_curator.settings"])["dropout"] == 0.05
    images = project_training.draw_with(parsed, lora)
    assert len(images) == 1
    with Image.open(images[0]) as image:
        assert image.size == (64, 64)
        assert json.loads(image.text["character_curator"])["settings"]["loras"]
    (folder / "p0.txt").write_text("another caption")
    anew = project_training.train(parsed, folder, tmp_path)
    assert anew.facts.fingerprint != lora.facts.fingerprint


def test_faults_of_the_project_file_name_key_and_line():
    text = 'source = "x"\n[training]\nrank = 0\nnonsense = 1\npreset = "default"\nrslora = 3\n'
    with pytest.raises(project.ProjectFileError) as raised:
        project.parse(text, "p.toml")
    told = str(raised.value).splitlines()
    assert len(told) == 3
    assert told[0].startswith("p.toml, line 3: training.rank: ")
    assert told[1].startswith("p.toml, line 4: training.nonsense: ")
    assert told[2].startswith("p.toml, line 6: training.rslora: ")
    with pytest.raises(project.ProjectFileError, match=r"line 3: training.preset: No preset 'x'"):
        project.parse('source = "x"\n[training]\npreset = "x"\n')


def test_facts_of_any_folder(tmp_path):
    from character_curator.training import read_examples

    folder = make_dataset(tmp_path / "set")
    examples, _ = read_examples(folder)
    facts = read_facts(folder, examples)
    assert (facts.trigger, facts.license, facts.name) == ("", "", "set")
    assert read_facts(folder, examples[::-1]).fingerprint == facts.fingerprint
    assert read_facts(folder, examples[1:]).fingerprint != facts.fingerprint
    assert without_trigger(examples, "char1") == 0
    assert without_trigger(examples, "char") == 5  # a word, not a part of one
    assert without_trigger(examples, "zoe, char1") == 0
    assert without_trigger(examples, "") == 0


@pytest.mark.parametrize("losses", [[], [(None, None)], [(None, 1.0), (2.0, 0.5), (1.0, None)],
                                    [(None, 0.3), (0.3, 0.3)], [(float("nan"), None)]])  # fmt: skip
def test_any_course_can_be_drawn(tmp_path, losses):
    reports = [
        EpochReport(n, n, loss, validation, None, None, 1, 1.0)
        for n, (loss, validation) in enumerate(losses)
    ]
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    write_plot(history_table(reports), svg, png, title="<a>", best_epoch=1, convergence_epoch=1)
    assert "&lt;a&gt;" in svg.read_text()
    with Image.open(png) as image:
        assert image.size == (900, 420)


@pytest.mark.parametrize("best", [1, 12, 25, 33, 40])
@pytest.mark.parametrize("convergence", [1, 10, 20, 31, 36, 40])
def test_no_mark_of_a_plot_crosses_the_label_of_another_or_leaves_the_plane(
    tmp_path, best, convergence
):
    reports = [EpochReport(n, n, 1.0, 1.0 / (n + 1), None, None, 1, 1.0) for n in range(41)]
    svg = tmp_path / "a.svg"
    write_plot(
        history_table(reports), svg, tmp_path / "a.png",
        best_epoch=best, convergence_epoch=convergence,
    )  # fmt: skip
    shapes = list(ElementTree.parse(svg).getroot())
    lines = [
        [float(value) for value in shape.get("points").replace(",", " ").split()]
        for shape in shapes
        if shape.tag.endswith("polyline")
    ]
    upright = [(x, top, bottom) for x, top, end, bottom, *more in lines if x == end and not more]
    labels = [shape for shape in shapes if (shape.text or "").startswith(("best", "convergence"))]
    assert len(upright) == len(labels) == 2
    font = ImageFont.load_default(13)
    for label in labels:
        x, y, width = float(label.get("x")), float(label.get("y")), font.getlength(label.text)
        left = x - width if label.get("text-anchor") == "end" else x
        assert 70 <= left <= 900 - 24 - width
        for at, top, bottom in upright:
            assert not (left <= at <= left + width and top <= y and bottom >= y - 10)


def test_joined_callbacks_tell_everyone_in_order():
    told = []
    both = joined(
        Callbacks(on_epoch=lambda r: told.append(("a", r))), None,
        Callbacks(on_epoch=lambda r: told.append(("b", r)), on_sample=told.append),
    )  # fmt: skip
    both.on_epoch(1)
    both.on_sample(2)
    assert told == [("a", 1), ("b", 1), 2]
    assert both.on_step is None


def test_tensorboard_is_named_when_absent(monkeypatch, tmp_path):
    from character_curator.errors import MissingDependencyError
    from character_curator.training.outputs.tensorboard import tensorboard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        tensorboard(tmp_path)
