"""No work twice: a file is decoded once, and a finished training is found again."""

import json
from collections import Counter
from pathlib import Path

import cv2
import pytest

from character_curator import cli, project, project_training
from character_curator.analysis import decoding
from character_curator.damages import collected_damage
from character_curator.dataset import export, verify
from character_curator.dataset.verdict import report_without_later
from character_curator.imageset import content_hash
from character_curator.training import LoraJob
from character_curator.training.data import examples as examples_module
from character_curator.training.finished import finished_outcome
from tests.support.images import make_images
from tests.support.tiny_denoiser import make_dataset
from tests.support.train_command import command, short


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "set")


@pytest.fixture
def decoded(monkeypatch):
    """Counts the files that are read and the images that are decoded."""
    counts = Counter()
    read, decode = decoding._read_bytes, cv2.imdecode

    def reading(path, *rest):
        counts[path.name] += 1
        return read(path, *rest)

    def decoding_one(*arguments):
        counts["decoded"] += 1
        return decode(*arguments)

    monkeypatch.setattr(decoding, "_read_bytes", reading)
    monkeypatch.setattr(cv2, "imdecode", decoding_one)
    return counts


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_training_reads_and_decodes_every_file_once(
    capsys, tmp_path, tiny_sd15, dataset, decoded
):
    others = make_dataset(tmp_path / "others", 2)
    for path in others.glob("p*"):
        path.rename(others / f"other-{path.name}")
    output = tmp_path / "x.safetensors"
    code, _ = command(capsys, dataset, *short(tiny_sd15, output), "--prior", others)
    assert code == 0
    names = [f"p{i}.png" for i in range(5)] + [f"other-p{i}.png" for i in range(2)]
    assert decoded == {**dict.fromkeys(names, 1), "decoded": 7}


def test_images_beyond_the_memory_are_decoded_again(
    capsys, tmp_path, tiny_sd15, dataset, decoded, monkeypatch
):
    monkeypatch.setattr(examples_module, "DECODED_BYTES", 64 * 64 * 3)
    command(capsys, dataset, *short(tiny_sd15, tmp_path / "x.safetensors"))
    assert decoded["decoded"] == 5 + 4


def test_a_finished_training_is_told_and_not_repeated(
    capsys, tmp_path, tiny_sd15, dataset, monkeypatch
):
    output = tmp_path / "x.safetensors"
    arguments = [dataset, *short(tiny_sd15, output)]
    first = command(capsys, *arguments)
    before = times(tmp_path)
    with monkeypatch.context() as patched:
        refuse(patched)
        assert command(capsys, *arguments) == first
        assert times(tmp_path) == before
        assert cli.main(["train", *map(str, arguments)]) == 0
        said = " ".join(capsys.readouterr().err.split())
    assert "x.safetensors is finished already" in said
    assert "--restart" in said
    assert "All 2 steps are done." in said


def refuse(monkeypatch):
    """Let no model be loaded."""

    def load(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("character_curator.training.denoisers.load.load", load)


def _replaced(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("change", "damaged"),
    [
        (lambda folder, output: output.unlink(), []),
        (
            lambda folder, output: output.write_bytes(output.read_bytes() + b" "),
            ["x.safetensors"],
        ),
        (lambda folder, output: output.with_suffix(".loss.svg").unlink(), []),
        (
            lambda folder, output: output.with_suffix(".loss.png").write_bytes(b"half"),
            ["x.loss.png"],
        ),
        (
            lambda folder, output: (output.with_suffix(".work") / "finished.json").write_text("{"),
            ["finished.json"],
        ),
        (
            lambda folder, output: _replaced(
                output.with_suffix(".work") / "finished.json", '"steps": 2', '"steps": 3'
            ),
            ["finished.json"],
        ),
    ],
    ids=["no file", "another file", "no plot", "another plot", "a damaged note", "another note"],
)
def test_what_is_not_there_whole_is_written_again_without_training(
    capsys, tmp_path, tiny_sd15, dataset, change, damaged
):
    output = tmp_path / "x.safetensors"
    arguments = [dataset, *short(tiny_sd15, output)]
    first = command(capsys, *arguments)
    assert command(capsys, *arguments) == first
    content, best = output.read_bytes(), output.with_suffix(".work") / "best.safetensors"
    plots = [output.with_suffix(f".loss.{kind}").read_bytes() for kind in ("svg", "png")]
    before = best.stat().st_mtime_ns
    change(dataset, output)
    code, told = command(capsys, *arguments)
    damage = told.pop("damage", [])
    assert (code, told) == first
    assert [Path(one["where"]).name for one in damage] == damaged
    assert output.read_bytes() == content
    assert [output.with_suffix(f".loss.{kind}").read_bytes() for kind in ("svg", "png")] == plots
    assert best.stat().st_mtime_ns == before, "it went on with the state"


def test_restart_trains_anew(capsys, tmp_path, tiny_sd15, dataset):
    output = tmp_path / "x.safetensors"
    arguments = [dataset, *short(tiny_sd15, output)]
    command(capsys, *arguments)
    content, state = output.read_bytes(), output.with_suffix(".work") / "state.safetensors"
    before = state.stat().st_mtime_ns
    code, _ = command(capsys, *arguments, "--restart")
    assert code == 0
    assert state.stat().st_mtime_ns > before
    assert output.read_bytes() == content


def test_more_steps_go_on_and_other_settings_are_refused_as_ever(
    capsys, tmp_path, tiny_sd15, dataset
):
    output = tmp_path / "x.safetensors"
    arguments = [dataset, *short(tiny_sd15, output)]
    command(capsys, *arguments)
    code, told = command(capsys, *arguments, "--steps", 4)
    assert (code, told["steps"]) == (0, 4)
    assert cli.main(["train", *map(str, arguments), "--lr", "0.5"]) != 0
    assert "is the state of another run" in " ".join(capsys.readouterr().err.split())
    (dataset / "p0.txt").write_text("another caption")
    assert cli.main(["train", *map(str, arguments), "--steps", "4"]) != 0
    assert "different are: pictures" in " ".join(capsys.readouterr().err.split())


def test_a_note_of_the_outcome_alone_is_read(tmp_path):
    job = LoraJob(tmp_path, tmp_path / "a.safetensors")
    job.output.write_bytes(b"weights")
    note = {"inputs": "x", "file": content_hash(job.output), "outcome": {"summary": "done"}}
    job.folder.mkdir()
    (job.folder / "finished.json").write_text(json.dumps(note))
    assert finished_outcome(job, "x") == {"summary": "done"}
    assert finished_outcome(job, "y") is None
    job.output.write_bytes(b"others")
    assert finished_outcome(job, "x") is None


def test_a_projects_training_is_found_again(tmp_path, tiny_sd15, dataset, monkeypatch, caplog):
    parsed = project.parse(f"""
source = "set"
[project]
name = "small"
output = "out"
[model]
path = "{tiny_sd15}"
[training]
steps = 2
resolution = 64
bucket_step = 16
validation_timesteps = 1
sample_every = 1
""")
    first = project_training.train(parsed, dataset, tmp_path)
    before = times(tmp_path)
    refuse(monkeypatch)
    again = project_training.train(parsed, dataset, tmp_path)
    assert (first.known, again.known) == (False, True)
    assert again.to_mapping() == first.to_mapping()
    assert again.training.convergence == first.training.convergence
    assert (again.facts, again.training.best) == (first.facts, first.training.best)
    noted = json.loads((first.file.with_suffix(".work") / "finished.json").read_text())
    # What the settings are chosen by is known to whoever chooses, not to what is noted.
    same = {**first.to_mapping(), "preset": None}
    assert noted["outcome"] == json.loads(json.dumps(same))
    assert {k: v for k, v in times(tmp_path).items() if not Path(k).name.startswith("feat")} == {
        k: v for k, v in before.items() if not Path(k).name.startswith("feat")
    }

    # What came of it goes into the report of a dataset, and can be taken out again to the byte.
    shown = export(make_images(tmp_path / "raw", 12), tmp_path / "shown", name="x").folder
    plain = (shown / "report.html").read_text(encoding="utf-8")
    assert project_training.tell_of_training(shown, first)
    told = (shown / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training: small.safetensors</h2>" in told
    assert "<td>Steps</td><td>2</td>" in told
    assert 'src="data:image/svg+xml;base64,' in told
    assert report_without_later(told) == plain
    assert verify(shown).ok
    assert project_training.tell_of_training(shown, again)
    assert (shown / "report.html").read_text(encoding="utf-8") == told
    (shown / "report.html").write_text(told + "<!-- mine -->", encoding="utf-8")
    assert not project_training.tell_of_training(shown, first)

    # A state that is damaged is not gone on from, and that is said.
    monkeypatch.undo()
    content, state = first.file.read_bytes(), first.file.with_suffix(".work") / "state.safetensors"
    first.file.unlink()
    state.write_bytes(state.read_bytes()[:-9])
    with collected_damage() as found:
        anew = project_training.train(parsed, dataset, tmp_path)
    assert [str(one) for one in found] == [
        f"1 damaged training state in {state}: the training begins anew"
    ]
    assert f"{first.file} is made again from the training's last state: No such file" in caplog.text
    assert f"Training anew: {state} is no checkpoint of this trainer, or is damaged" in caplog.text
    assert (anew.known, first.file.read_bytes()) == (False, content)
