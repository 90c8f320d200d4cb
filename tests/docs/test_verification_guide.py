"""docs/verification.md says what works."""

import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli
from character_curator.defaults import REGENERATED_IMAGES, TEST_PROMPTS
from character_curator.evaluation.summary import Targets
from character_curator.verification import diagnosis, samples
from character_curator.verification.checklist import LINES
from tests.support.guides import blocks, shell_lines

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", shell_lines(GUIDE))
def test_every_command_is_understood(line):
    options = cli.parser().parse_args(shlex.split(line)[1:])
    assert callable(options.command)


def test_every_option_that_it_names_exists():
    choices = cli.parser()._subparsers._group_actions[0].choices
    known = {
        o for n in ("verify", "diagnose", "sign-off") for o in choices[n]._option_string_actions
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known


def test_it_has_every_line_of_the_checklist_in_its_order():
    rows = re.findall(r"^\| (?:\*\*)?([^|*]+?)(?:\*\*)? \|", GUIDE, re.M)
    for group in dict.fromkeys(group for group, _ in LINES.values()):
        assert group in rows
    titles = [re.split(r"[:(]", title)[0].strip() for _, title in LINES.values()]
    assert [row for row in rows if row in titles] == titles


def test_its_numbers_are_those_of_the_code():
    targets = Targets()
    for text in (
        f"more than {REGENERATED_IMAGES} images again",
        f"{TEST_PROMPTS} new prompts",
        f"at least {targets.consistency:.0%} of the test images".replace("%", " %"),
        f"at most {targets.artefacts:.0%} fail".replace("%", " %"),
        f"at most {samples.QUALITY_LOSS:g} below theirs",
        f"more than {diagnosis.STRANGERS:.0%} of the training faces".replace("%", " %"),
        f"below {diagnosis.LOW_QUALITY:g}",
        f"fewer than {diagnosis.FEW_PASSES:g} passes",
        f"fewer than {diagnosis.FEW_IMAGES} images",
        f"{diagnosis.SAME_SEEDS:g} similar",
        f"more than {targets.memorised:.0%} of the images repeat".replace("%", " %"),
        f"rose by {diagnosis.RISEN:.0%}".replace("%", " %"),
        f"{diagnosis.MANY_PASSES:g} passes and more",
        f"below {diagnosis.MEAN_QUALITY:.2f} on average",
    ):
        assert text in GUIDE, text


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", GUIDE))
def test_every_link_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    from character_curator import export
    from tests.support.images import make_images

    monkeypatch.chdir(tmp_path)
    export(make_images(tmp_path / "raw"), tmp_path / "demo" / "dataset", name="a", report=False)
    for block in blocks(GUIDE, "python"):
        exec(compile(block, "guide", "exec"), {})
    assert "NOT READY FOR PRODUCTION" in capsys.readouterr().out
