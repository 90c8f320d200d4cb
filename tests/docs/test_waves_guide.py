"""docs/waves.md says what works."""

import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, project
from character_curator.growth.waves import wave_of
from character_curator.project_sections import WavesSection
from character_curator.selection import Quota

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "waves.md").read_text(encoding="utf-8")
DEMO = (ROOT / "core" / "demo.toml").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.S | re.M)


def test_its_command_is_understood():
    (block,) = blocks("sh")
    assert callable(cli.parser().parse_args(shlex.split(block)[1:]).command)


def test_its_section_is_valid_and_has_every_key():
    (block,) = blocks("toml")
    waves = project.parse(DEMO + block).waves
    assert set(waves.model_dump(exclude_unset=True)) == set(WavesSection.model_fields)
    # Where it says what is taken unless given, that is what it shows.
    assert waves.gain == WavesSection().gain
    selection = project.parse(DEMO).selection
    assert waves.size == wave_of(selection.total, [Quota.parse(q) for q in selection.quotas])


def test_its_quota_is_valid():
    (quota,) = re.findall(r'`"(scenario=[^"]+)"`', GUIDE)
    section = DEMO.replace("quotas = [", f'quotas = [\n  "{quota}",')
    assert project.parse(section).selection.quotas[0] == quota


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", GUIDE))
def test_every_link_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()
