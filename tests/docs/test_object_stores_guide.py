"""docs/object-stores.md says what works."""

import shlex
from pathlib import Path

import pytest

from character_curator import cli
from character_curator.dataset.shards import write_shards
from character_curator.stores.cache import USUAL_LIMIT, Cache, bytes_of
from character_curator.stores.mirror import AHEAD, UPLOADING
from tests.support.guides import blocks, shell_lines
from tests.support.images import make_images

GUIDE = (Path(__file__).parents[2] / "docs" / "object-stores.md").read_text(encoding="utf-8")
COMMANDS = [line for line in shell_lines(GUIDE) if line.startswith("character-curator ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line):
    words = shlex.split(line, comments=True)[1:]
    assert callable(cli.parser().parse_args(words).command)


def test_its_numbers_are_the_codes(monkeypatch):
    monkeypatch.delenv("CURATOR_CACHE_LIMIT", raising=False)
    monkeypatch.delenv("CURATOR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert Cache.usual().limit == bytes_of(USUAL_LIMIT) == bytes_of("50GB")
    assert Cache.usual().folder == Path("~/.cache/character-curator/stores").expanduser()
    assert "50 GB of them" in GUIDE
    assert AHEAD == 16
    assert "sixteen at a time" in GUIDE
    assert f"`{UPLOADING}`" in GUIDE


@pytest.mark.slow
def test_its_python_reads_the_shards(tmp_path, monkeypatch):
    pytest.importorskip("webdataset")
    pytest.importorskip("datasets")
    make_images(tmp_path / "dataset", 8)
    for image in sorted((tmp_path / "dataset").glob("*.png")):
        image.with_suffix(".txt").write_text("a caption")
    write_shards(tmp_path / "dataset", tmp_path / "shards", count=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    (block,) = blocks(GUIDE, "python")
    exec(compile(block.replace('split="train")', f'split="train", cache_dir="{tmp_path}")'),
                 "guide", "exec"), {})  # fmt: skip
