"""What commands say: errors however quiet, and whatever is made again, begun anew or removed."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from character_curator import atomic
from character_curator.damages import collected_damage, note_damage, summary
from character_curator.dataset import publish
from character_curator.experiment.runs import RESULT_FILE, known_result
from character_curator.growth import ledger
from character_curator.plan import Plan, Scenario, Subject
from character_curator.portfolio import making
from character_curator.training.finished import FINISHED, read_notes
from tests.support.commands import command, curate, draw_people, own_logging
from tests.support.tiny_analysis import needs_miniature_faces

WITHOUT_ANYTHING = {
    "run": ["{}/project.toml"],
    "generate": ["{}/project.toml"],
    "curate": ["{}", "--output", "{}/out"],
    "reproduce": ["{}/a.png"],
    "train": ["{}/dataset", "--output", "{}/a.safetensors", "--base", "miniature"],
    "evaluate": ["{}/a.safetensors", "--model", "miniature", "--dataset", "{}/dataset"],
    "portfolio": ["{}/project.toml"],
    "experiment": ["before-after", "{}/project.toml"],
    "versions": ["{}/dataset"],
    "diff": ["1", "2", "--dataset", "{}/dataset"],
    "restore": ["{}/dataset", "1"],
    "verify": ["{}/dataset"],
    "sign-off": ["{}/dataset", "--name", "x"],
    "diagnose": ["{}/a.safetensors", "--dataset", "{}/dataset"],
    "captions lint": ["{}/dataset"],
    "captions undo": ["{}/dataset"],
    "captions edit": ["{}/dataset", "--add", "x"],
    "captions frequencies": ["{}/dataset"],
    "caption": ["{}/dataset", "--model", "{}/tagger"],
    "augment": ["{}/project.toml"],
    "assets": ["{}/project.toml"],
    "experiment augmentation": ["{}/project.toml"],
    "upload": ["{}/dataset", "{}/elsewhere"],
    "download": ["s3://", "{}/elsewhere"],
    "export": ["{}", "--output", "{}/shards"],
    "curate --workers 2": ["{}", "--output", "{}/out"],
    "run --workers 2": ["{}/project.toml"],
    "generate --workers 2": ["{}/project.toml"],
    "faces": ["{}/pack"],
}


@pytest.mark.parametrize("name", WITHOUT_ANYTHING)
def test_each_command_says_its_error_however_quiet(name, tmp_path):
    (tmp_path / "file").write_text("no folder")
    arguments = [text.replace("{}", str(tmp_path)) for text in WITHOUT_ANYTHING[name]]
    with own_logging():
        out, told = command(*name.split(), *arguments, "--quiet", check=2)
    assert not out
    assert "Error" in told
    assert "Traceback" not in told
    out, told = command(*name.split(), *arguments, "--json", check=2)
    assert json.loads(out).keys() == {"error", "message"}


def test_what_killed_processes_left_is_removed_and_said(tmp_path, caplog):
    (tmp_path / f".{'ab' * 8}{atomic.TEMPORARY_SUFFIX}").write_bytes(b"half")
    with caplog.at_level(logging.INFO, "character_curator"):
        assert atomic.sweep(tmp_path) == 1
        assert atomic.sweep(tmp_path) == 0
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "1 temporary file that" in caplog.text


def test_half_an_export_is_removed_or_finished_and_said(tmp_path, caplog):
    (tmp_path / ".out.tmp-1").mkdir()
    with caplog.at_level(logging.INFO, "character_curator"):
        publish.recover(tmp_path / "out")
    assert "half-written" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"arm": "all"}', "\x00"])
def test_a_result_that_is_damaged_is_made_again_and_that_is_said(tmp_path, caplog, text):
    assert known_result(tmp_path) is None
    assert not caplog.records
    (tmp_path / RESULT_FILE).write_text(text)
    assert known_result(tmp_path) is None
    assert "the run is made again" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_notes_of_a_training_that_are_damaged_are_said(tmp_path, caplog, text):
    assert read_notes(tmp_path) is None
    assert not caplog.records
    (tmp_path / FINISHED).write_text(text)
    assert read_notes(tmp_path) is None
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": 1, "fingerprint": 5}'])
def test_what_is_noted_of_a_subject_and_damaged_is_said(tmp_path, caplog, text):
    one = SimpleNamespace(work=tmp_path, key="k", subject=SimpleNamespace(name="zoe"))
    assert making._settled(one, tmp_path) is None
    assert not caplog.records
    (tmp_path / making.SETTLED_FILE).write_text(text)
    (tmp_path / "SHA256SUMS").write_text(f"{'ab' * 32}  a.png\n")
    (tmp_path / making.pipeline.TABLE_FILE).write_bytes(b"PAR1")
    noted = json.loads(text) if text.startswith('{"') else None
    found = making._settled(one, tmp_path)
    assert found is None
    if noted is None:
        assert "'zoe' is damaged" in caplog.text


def test_damage_is_counted_by_kind_and_place():
    with collected_damage() as found:
        note_damage("measurements (x)", "a", "measured again", 2)
        note_damage("images", "b", "made again")
        note_damage("measurements (x)", "a", "measured again", 3)
        note_damage("measurements (x)", "c", "measured again", 0)
        with collected_damage() as inner:
            note_damage("images", "b", "made again")
        assert len(inner) == 1
    note_damage("images", "b", "made again")
    assert [str(one) for one in summary(found)] == [
        "5 damaged measurements (x) in a: measured again", "2 damaged images in b: made again",
    ]  # fmt: skip


@pytest.mark.parametrize("text", [
    "{", "[]", '{"images": [1]}', '{"images": [{"a": 1}]}',
    '{"images": [{"subject": "char1", "seed": 1, "kind": "scenario", "scenario": 1, "take": 1, '
    '"wave": 1, "aim": "x", "usable": "much", "quality": 1, "request": "same"}]}',
])  # fmt: skip
def test_notes_of_waves_that_are_damaged_are_said(tmp_path, caplog, monkeypatch, text):
    plan = Plan(
        subjects=[Subject(name="char1", description="woman")],
        seeds=(1,),
        scenarios=[Scenario(number=1, name="scene", prompt="park")],
    )
    monkeypatch.setattr(ledger, "request_fingerprint", lambda *_: "same")
    path = tmp_path / "waves.json"
    assert ledger.read_ledger(path, plan, {}) == []
    assert not caplog.records
    path.write_text(text)
    with collected_damage() as found:
        assert ledger.read_ledger(path, plan, {}) == []
    assert "is damaged" in caplog.text
    assert [one.where for one in found] == [str(path)]


@needs_miniature_faces
def test_the_end_of_a_run_says_what_was_damaged(tmp_path):
    source = draw_people(tmp_path / "in", 5)
    before, told, _ = curate(source, tmp_path / "out")
    assert "Damage" not in told
    assert "damage" not in before
    store = tmp_path / "out.work" / "features.sqlite"
    with closing(sqlite3.connect(store)) as connection, connection:
        changed = connection.execute("UPDATE feature SET checksum = x'00'").rowcount
    (tmp_path / "out" / "README.md").write_text("changed")
    found, told, _ = curate(source, tmp_path / "out")
    said = " ".join(told.split())
    kinds = {one["what"]: one for one in found["damage"]}
    assert sum(one["count"] for name, one in kinds.items() if "measurements" in name) == changed
    assert all(one["where"] == str(store) for name, one in kinds.items() if "measure" in name)
    assert kinds["files of the version before"]["count"] == 1
    assert "Damage found" in said
    assert "1 damaged file of the version before in" in said
    again, told, _ = curate(source, tmp_path / "out")
    assert "Damage" not in told
    assert "damage" not in again
