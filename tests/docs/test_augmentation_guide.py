"""docs/augmentation.md says what works."""

import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, project
from character_curator.augmentation_section import AugmentationSection
from character_curator.reading import disturbances
from tests.support.guides import blocks, shell_lines
from tests.support.small_augmentation import PROJECT, draw

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "augmentation.md").read_text(encoding="utf-8")


def test_every_command_is_understood():
    lines = shell_lines(GUIDE)
    lines += re.findall(r"`(character-curator [^`]+)`", GUIDE)
    curator = [shlex.split(line)[1:] for line in lines if line.startswith("character-curator")]
    assert len(curator) == 4
    for words in curator:
        assert callable(cli.parser().parse_args(words).command)
    (script,) = [line.split()[1] for line in lines if line.startswith("python ")]
    assert (ROOT / script).is_file()


def test_its_project_file_has_the_defaults():
    (block,) = blocks(GUIDE, "toml")
    read = project.parse(block)
    assert read.augmentation == AugmentationSection(candidates=300, price_per_hour=1.0)
    assert read.selection.total == project.parse('source = "x"').selection.total
    from character_curator.project_parts import plan_of

    assert len(plan_of(read).requests()) == read.augmentation.candidates


def test_its_table_of_strengths_is_what_is_drawn():
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", GUIDE, re.M))
    assert tuple(rows) == disturbances.KINDS
    numbers = {kind: [float(n) for n in re.findall(r"\d+(?:\.\d+)?", row.split("|", 1)[1])]
               for kind, row in rows.items()}  # fmt: skip
    (focus, smear) = disturbances._GAUSSIAN, disturbances._SMEAR
    shares = [focus[0], smear[0], focus[1], smear[1]]
    assert numbers == {
        "occlusion": [100 * share for share in disturbances._COVERED],
        "blur": [pytest.approx(100 * share) for share in shares],
        "noise": list(disturbances._GRAIN),
        "compression": list(disturbances._QUALITY),
    }


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", GUIDE))
def test_every_link_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()


def test_its_python_disturbs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(Path("photos"), 2)
    exec(compile(blocks(GUIDE, "python")[1], "guide", "exec"), {})
    assert "2 disturbed copies of 2 of 2 images" in capsys.readouterr().out


@pytest.mark.slow
def test_its_python_augments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(Path("photos"), 6)
    Path("ada.toml").write_text(PROJECT, encoding="utf-8")
    exec(compile(blocks(GUIDE, "python")[0], "guide", "exec"), {})
    assert "5 real, 6 synthetic, of them 3 disturbed" in capsys.readouterr().out
