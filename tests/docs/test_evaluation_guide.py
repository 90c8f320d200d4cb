"""The guides to evaluation and experiment say what works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, project
from character_curator.cli import experiment
from character_curator.evaluation.figures import RATINGS
from character_curator.evaluation.summary import Targets
from character_curator.experiment.tables import replaced
from tests.support.guides import blocks

ROOT = Path(__file__).parents[2]
GUIDES = {name: (ROOT / "docs" / name).read_text() for name in ("evaluation.md", "before-after.md")}


COMMANDS = [
    line
    for text in GUIDES.values()
    for block in blocks(text, "sh")
    for line in block.splitlines()
    if line.startswith("character-curator ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    options = cli.parser().parse_args(shlex.split(line)[1:])
    assert callable(options.command)
    if options.command is experiment._experiment:
        demo = project.read(ROOT / "core" / "demo.toml")
        assert experiment.plan_of(options, demo).settings.rank == demo.training.settings().rank


def test_the_guides_have_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("name", GUIDES)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDES[name]):
        assert (ROOT / "docs" / target).exists(), target


def test_the_table_of_ratings_and_targets_is_the_codes():
    text = GUIDES["evaluation.md"]
    for rating, name in RATINGS.items():
        assert f"| {rating} {name} |" in text
    targets = Targets()
    for row, value in (
        ("character consistency", f"at least {targets.consistency:g}"),
        ("artefacts", f"at most {targets.artefacts:g}"),
        ("leakage", f"at most {targets.leakage:.2f}"),
        ("adherence", f"at most {targets.adherence_loss:g}"),
        ("memorised", f"at most {targets.memorised:g}"),
    ):
        line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
        assert value in line, line


def test_the_table_can_be_put_into_the_document():
    assert "| new |" in replaced(GUIDES["before-after.md"], "| new |")


def test_the_python_of_the_guide_reads_what_is_written(tmp_path, monkeypatch, capsys):
    import polars as pl

    folder = tmp_path / "char1.evaluation" / "char1"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "series": ["trigger", "grid"], "rating": [2, 5], "path": ["a.png", "b.png"],
            "rating_name": ["poor", "excellent"], "identity_similarity": [0.2, 0.9],
            "artefact_reason": [None, None],
        }
    ).write_parquet(folder / "pictures.parquet")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for block in blocks(GUIDES["evaluation.md"], "python"):
        exec(compile(block, "guide", "exec"), {})
    assert "a.png" in capsys.readouterr().out
