"""docs/portfolio.md says what works."""

import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, project, project_sections
from tests.support.guides import blocks, shell_lines
from tests.support.small_portfolio import ADA, BEN, HEAD

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "portfolio.md").read_text(encoding="utf-8")
AVATARS = ROOT / "core" / "avatars.toml"


def test_every_command_is_understood():
    lines = shell_lines(GUIDE)
    lines += re.findall(r"`(character-curator [^`]+)`", GUIDE)
    curator = [shlex.split(line)[1:] for line in lines if line.startswith("character-curator")]
    assert len(curator) == 4
    for words in curator:
        assert callable(cli.parser().parse_args(words).command)


def test_the_avatars_are_as_many_as_it_says():
    read = project.read(AVATARS)
    totals = [subject.total for subject in read.subjects]
    assert totals == [80, 75, 85, 70, 90]
    assert "80, 75, 85, 70 and 90 images" in GUIDE
    assert f"{sum(totals)} in all" in GUIDE
    from character_curator.project_parts import plan_of

    candidates = len(plan_of(read).requests()) // len(totals)
    assert f"{candidates} candidates each" in GUIDE


def test_its_piece_of_a_project_file_is_valid():
    (block,) = blocks(GUIDE, "toml")
    text = AVATARS.read_text(encoding="utf-8")
    text = re.sub(r"^\[portfolio\]\n.*?\n\n", "", text, flags=re.S | re.M)
    read = project.parse(text + block)
    assert read.subjects[-1].name == "frida"
    assert read.portfolio == project_sections.PortfolioSection(price_per_hour=1.0)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", GUIDE))
def test_every_link_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = HEAD.replace("[966983, 966984]", "[966983]").replace("total = 3", "total = 2")
    ada = ADA.replace("total = 4", "total = 1").replace("seed=2", "seed=1")
    Path("avatars.toml").write_text(text + ada + BEN, encoding="utf-8")
    (block,) = blocks(GUIDE, "python")
    exec(compile(block, "guide", "exec"), {})
    said = capsys.readouterr().out
    assert "ada 1 of 1\nben 2 of 2\n" in said
    assert "| images of |" in said


def test_its_table_is_of_the_five():
    table = GUIDE.split("<!-- avatars: begin -->")[1].split("<!-- avatars: end -->")[0]
    rows = re.findall(r"^\| (\w+) \| (\d+) \|(?: \**-?\d\.\d+\** \|){5} 0 \|", table, re.M)
    wanted = [(s.name, str(s.total)) for s in project.read(AVATARS).subjects]
    assert rows == wanted


@pytest.mark.slow
def test_the_whole_of_it(tmp_path):
    from character_curator.portfolio.making import make_portfolio

    made = make_portfolio(project.read(AVATARS), tmp_path)
    assert made.is_complete
    assert made.figures.images == 400
    assert made.combined.figures.images == 400
    assert min(made.chosen.least) > 0
