"""docs/cluster.md says what works."""

import re
import shlex
from pathlib import Path

from character_curator import cli, project
from character_curator.engine_section import EngineSection

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", GUIDE, re.S | re.M)


def test_its_commands_are_understood():
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    ours = [line for line in lines if line.startswith("character-curator")]
    assert len(ours) > 3
    for line in ours:
        assert callable(cli.parser().parse_args(shlex.split(line)[1:]).command)


def test_its_section_is_valid_and_has_every_key():
    (block,) = blocks("toml")
    engine = project.parse('source = "photos"\n' + block).engine
    assert set(engine.model_dump(exclude_unset=True)) == set(EngineSection.model_fields)


def test_it_names_every_option():
    options = cli.engines._OPTIONS
    assert [flag for flag in options if f"`{flag}`" not in GUIDE] == []
