"""Project files that ask for what cannot be: refused with the key and the line, or contained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from character_curator import project_parts, project_training
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.errors import CuratorError
from character_curator.generation import models
from character_curator.lora.file import CheckpointError, read
from character_curator.plan import MOST_IMAGES, Plan, PlanError, Scenario, Subject
from character_curator.project import parse
from character_curator.toml_lines import TomlError, read_tables
from tests.support.commands import command

PROJECT = """
[project]
name = "small"
output = "out"

[model]
path = "miniature"
batch_size = 2

[plan]
seeds = [1]
takes = 1

[[subjects]]
name = "char1"
trigger = "char1"
description = "woman"

[[scenarios]]
number = 1
name = "a"
prompt = "park"

[faces]
detection_size = 64

[clusters]
random_state = 0

[selection]
total = 1
quotas = ["seed=1"]

[training]
rank = 4
"""
IMPOSSIBLE = {
    "targets": ("rank = 4", "targets = 5", "training.targets"),
    "rank": ("rank = 4", "rank = 1000000000", "training.rank"),
    "random state": ("random_state = 0", "random_state = 4294967296", "clusters.random_state"),
    "detection": ("detection_size = 64", "detection_size = 1000000", "faces.detection_size"),
    "batch": ("batch_size = 2", "batch_size = 1000000000000", "model.batch_size"),
    "quota": ('"seed=1"', '"seed=999999999999999999999"', "selection.quotas"),
    "share": ('"seed=1"', '"seed=1:99999999999999999999"', "selection.quotas"),
    "total": ("total = 1", "total = 99999999999999999999", "selection.total"),
    "zero byte": ('output = "out"', 'output = "o\\u0000ut"', "project.output"),
    "zero byte in a list": ("rank = 4", 'rank = 4\nprompts = ["a", "b\\u0000"]', "prompts"),
    "zero byte in a model": ('"miniature"', '"mini\\u0000"', "model.path"),
}


@pytest.mark.parametrize(("old", "new", "key"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_cannot_be_is_refused_with_its_key(tmp_path, old, new, key):
    parse(PROJECT)
    assert old in PROJECT
    (tmp_path / "project.toml").write_text(PROJECT.replace(old, new))
    _, told = command("run", tmp_path / "project.toml", check=2)
    assert "ProjectFileError" in told
    assert key in told.replace("\n", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["[" * 5000, "{a=" * 5000, "9" * 5000])
def test_toml_beyond_measure_is_refused(tmp_path, value):
    (tmp_path / "project.toml").write_text(PROJECT + f"\nx = {value}\n")
    _, told = command("run", tmp_path / "project.toml", check=2)
    assert "ProjectFileError" in told
    (tmp_path / "recipe.toml").write_text(f"x = {value}")
    with pytest.raises(TomlError):
        read_tables(tmp_path / "recipe.toml")


@pytest.mark.parametrize("caption", ["{trigger:{caption}}", "{trigger.x}", "{0}", "{", "{a!r:>9}"])
def test_a_template_of_braces_is_a_text_or_refused(caption):
    project = parse(PROJECT.replace("takes = 1", f"takes = 1\ncaption = '{caption}'"))
    try:
        requests = project_parts.plan_of(project).requests()
    except PlanError:
        return
    assert len(requests) == 1


def test_a_plan_beyond_all_measure_is_refused_with_its_size():
    subject, scene = Subject(name="char1"), Scenario(number=1, name="a", prompt="park")
    whole = Plan(subjects=[subject], scenarios=[scene], seeds=[1], takes=MOST_IMAGES)
    assert whole.takes == MOST_IMAGES
    with pytest.raises(PlanError, match="160,000,000 images"):
        Plan(subjects=[subject], scenarios=[scene], seeds=[1, 2], takes=80_000_000)


@pytest.mark.parametrize("words", [["generate"], ["run"]])
def test_a_plan_is_refused_before_any_model_is_loaded(tmp_path, monkeypatch, words):
    def loaded(*arguments, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("character_curator.pipeline.backend_of", loaded)
    text = PROJECT.replace("takes = 1", "takes = 160000000")
    for more in ("", "\n[waves]\n"):
        (tmp_path / "project.toml").write_text(text + more)
        _, told = command(*words, tmp_path / "project.toml", check=2)
        assert "PlanError" in told
        assert "160,000,000 images" in told.replace("\n", " ")


def test_a_place_that_is_taken_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    def measured(*arguments, **options):
        raise AssertionError("something was measured")

    monkeypatch.setattr("character_curator.pipeline.measured_of", measured)
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "out" / "SHA256SUMS").write_text("of somebody's own")
    _, told = command("curate", tmp_path / "in", "--output", tmp_path / "out", check=2)
    assert "holds files and is not a dataset" in told.replace("\n", " ")


@pytest.mark.parametrize("name", ["../../escape", "/etc/x", "a\\..\\b", ".hidden", "a\nb", "small"])
def test_the_lora_stays_in_its_folder(tmp_path, monkeypatch, name):
    given = []
    monkeypatch.setattr("character_curator.training.finished.train_once", lambda job, *_, **__: (
        given.append(job), (_ for _ in ()).throw(CuratorError("enough")))[1])  # fmt: skip
    quoted = name.replace("\\", "\\\\").replace("\n", "\\n")
    project = parse(PROJECT.replace('name = "small"', f'name = "{quoted}"'))
    with pytest.raises(CuratorError, match="enough"):
        project_training.train(project, tmp_path / "dataset", tmp_path)
    output = given[0].output
    assert output.parent == tmp_path / "out" / "lora"
    assert "\n" not in output.name
    assert (output.name == "small.safetensors") == (name == "small")


def test_a_home_of_nobody_is_a_named_error(tmp_path):
    text = PROJECT.replace('output = "out"', 'output = "~nobody-of-this-name/x"')
    (tmp_path / "project.toml").write_text(text)
    _, told = command("run", tmp_path / "project.toml", check=2)
    assert "NoHomeError" in told


def test_without_any_home_hashes_are_not_remembered(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")

    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(type(tmp_path), "expanduser", nobody)
    assert len(models.file_hash(file)) == 64


def test_without_any_home_the_embedded_pack_is_opened(tmp_path, monkeypatch):
    real = type(tmp_path).expanduser

    def nobody(path):
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return real(path)

    monkeypatch.setattr(type(tmp_path), "expanduser", nobody)
    assert FaceAnalyser("miniature").has_recogniser
    _, told = command("faces")
    assert "miniature" in told


def test_places_that_cannot_be_are_named_errors(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    _, told = command("curate", tmp_path / "in", "--output", "/", check=2)
    assert "DatasetPlaceError" in told
    (tmp_path / "file").write_text("")
    for output in ("x.unknown", "x", "x.pdf"):
        _, told = command("reproduce", tmp_path / "in" / "a.png", "--output", output, check=2)
        assert "let it end with .png" in told.replace("\n", " ")


def test_too_little_memory_is_a_named_error(tmp_path, monkeypatch):
    def large(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("character_curator.pipeline.source_images", large)
    _, told = command("curate", tmp_path, "--output", tmp_path / "out", check=2)
    assert "TooLittleMemoryError" in told


BROKEN = {
    "no up": {"a.lora_down.weight": (2, 4)},
    "no down": {"a.lora_up.weight": (4, 2)},
    "alpha of several": {"a.lora_down.weight": (2, 4), "a.lora_up.weight": (4, 2), "a.alpha": (3,)},
    "alpha of none": {"a.lora_down.weight": (2, 4), "a.lora_up.weight": (4, 2), "a.alpha": (0,)},
    "other ranks": {"a.lora_down.weight": (2, 4), "a.lora_up.weight": (4, 3)},
    "no shape": {"a.lora_down.weight": (), "a.lora_up.weight": ()},
    "half a LoKr": {"a.lokr_w1": (2, 2), "a.lokr_w2_a": (2, 2)},
    "alpha of a LoKr": {"a.lokr_w1": (2, 2), "a.lokr_w2": (2, 2), "a.alpha": (2,)},
    "half a LoHa": {"a.hada_w1_a": (2, 2), "a.hada_w1_b": (2, 2), "a.hada_w2_a": (2, 2)},
}


@pytest.mark.parametrize("shapes", BROKEN.values(), ids=BROKEN.keys())
def test_a_lora_that_is_not_whole_is_a_named_error(tmp_path, shapes):
    path = tmp_path / "a.safetensors"
    save_file({f"lora_unet_{name}": torch.zeros(shape) for name, shape in shapes.items()}, path)
    file = read(path)
    for name in file.names:
        with pytest.raises(CheckpointError, match="not whole"):
            file.rank(name)
