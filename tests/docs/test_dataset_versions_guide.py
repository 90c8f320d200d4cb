"""docs/dataset-versions.md says what works."""

import json
import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, export
from character_curator.dataset.version_record import Parent, VersionRecord
from tests.support.guides import blocks, shell_lines
from tests.support.images import make_images

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "dataset-versions.md").read_text(encoding="utf-8")


COMMANDS = shell_lines(GUIDE)


@pytest.fixture
def two_versions(tmp_path, monkeypatch):
    """The guide's dataset, twice exported, in the current folder."""
    images = make_images(tmp_path / "raw", 8)
    for name in "ab":
        export(images, tmp_path / "demo" / "dataset", name=name, report=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "demo" / "dataset"


def test_its_options_exist():
    choices = cli.parser()._subparsers._group_actions[0].choices
    known = {
        option
        for name in ("versions", "diff", "restore", "reproduce", "verify")
        for option in choices[name]._option_string_actions
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known


def test_its_table_has_every_key_of_the_record():
    record = VersionRecord(
        2, "t", "f", "r", Parent(1, "f"), restored=1, edits=1, tools={"a": "1"},
        models={"faces": "x"},
    )  # fmt: skip
    keys = {*record.as_mapping()} - {"program", "format"} | {"seal"}
    rows = re.findall(r"^\| (`.*?) \|", GUIDE, re.M)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys


def test_its_commands_run_as_they_stand(two_versions, capsys):
    for line in COMMANDS:
        arguments = shlex.split(line)[1:]
        if arguments[0] == "reproduce":  # whose own test takes a dataset that was generated
            assert cli.parser().parse_args(arguments).version == "1"
            continue
        assert cli.main(arguments) == 0, capsys.readouterr().err
    assert Path("changes.html").stat().st_size > 5000
    assert json.loads((two_versions / "version.json").read_text())["number"] == 3


def test_its_python_runs(two_versions, capsys):
    (block,) = blocks(GUIDE, "python")
    exec(compile(block, "guide", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 20")
    assert lines[-1].startswith("3 ")
