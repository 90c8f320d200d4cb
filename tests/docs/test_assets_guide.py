"""docs/assets.md says what works."""

import json
import re
import shlex
from pathlib import Path

import pytest

from character_curator import cli, project
from character_curator.asset_sections import BACKGROUNDS, DEFAULT_PROMPTS, AtlasRules
from tests.support.guides import blocks, shell_lines
from tests.support.small_assets import lora_bytes

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "assets.md").read_text(encoding="utf-8")
LORA = "lora/gentle-freckled-character.safetensors"


def test_every_command_is_understood():
    lines = shell_lines(GUIDE)
    lines += re.findall(r"`(character-curator [^`]+)`", GUIDE)
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)[1:]
        if words != ["run"]:
            assert callable(cli.parser().parse_args(words).command)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", GUIDE))
def test_every_link_leads_somewhere(target):
    assert (ROOT / "docs" / target).exists()


def test_what_it_says_of_defaults_is_so():
    assert all(f"*{prompt.prompt}*" in GUIDE for prompt in DEFAULT_PROMPTS)
    assert all(f"`{kind}`" in GUIDE for kind in BACKGROUNDS)
    rules = AtlasRules()
    for text in (
        f"`atlas_size` ({rules.atlas_size})", f"`padding` ({rules.padding})",
        f"`extrude` ({rules.extrude})",
    ):  # fmt: skip
        assert text in GUIDE
    demo = project.read(ROOT / "core" / "demo.toml")
    assert f"lora/{demo.project.name}.safetensors" == LORA
    assert demo.plan.caption == "portrait of {trigger} {class_word}, {scenario}"


@pytest.fixture(scope="module")
def hero(tmp_path_factory):
    """A folder with its project file, with one seed and few steps, and a LoRA under its name."""
    folder = tmp_path_factory.mktemp("guide")
    (block,) = blocks(GUIDE, "toml")
    assert f'lora = "{LORA}"' in block
    text = block.replace("steps = 20", "steps = 2").replace(", 966984, 966985, 966986", "")
    text = text.replace("strength = 1.0", "strength = 0.2")
    text += "\n[faces]\nminimum_confidence = 0.3\nminimum_side = 8.0\n\n[quality]\nminimum = 0.0\n"
    (folder / "hero.toml").write_text(text, encoding="utf-8")
    (folder / "lora").mkdir()
    (folder / LORA).write_bytes(lora_bytes())
    return folder


def test_its_python_runs_and_what_it_says_is_written_is_there(hero, monkeypatch, capsys):
    monkeypatch.chdir(hero)
    (block,) = blocks(GUIDE, "python")
    exec(compile(block, "guide", "exec"), {})
    said = capsys.readouterr().out
    assert "hero.zip\npack\n" in said
    folder = hero / "hero" / "assets"
    for names in re.findall(r"^\| (`[^|]+) \| ", GUIDE.split("## What is written")[1], re.M)[:7]:
        for name in re.findall(r"`([^`]+)`", names):
            if "char1_armor" not in name:
                assert (folder / name).exists(), name
    assert list(folder.glob("hero/*/char1_armor_966983.png"))
    manifest = json.loads((folder / "hero" / "manifest.json").read_text(encoding="utf-8"))
    assert {asset["tag"] for asset in manifest["assets"]} <= {"near", "far"}
    (block,) = blocks(GUIDE, "json")
    shown = json.loads(block)
    there = json.loads((folder / "hero" / "atlas.json").read_text(encoding="utf-8"))
    assert shown["meta"].keys() == there["meta"].keys()
    (frame,) = shown["frames"].values()
    assert all(frame.keys() == other.keys() for other in there["frames"].values())


@pytest.mark.slow
def test_the_archive_comes_again(hero):
    assert cli.main(["assets", str(hero / "hero.toml")]) == 0
    assert cli.main(["assets", str(hero / "hero.toml"), "--verify"]) == 0
