"""Places and sources as a stranger may name them: named errors, before hours are spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from character_curator.reading.folders import SourceError, list_sources
from tests.support.commands import CURATE, command


@pytest.mark.parametrize(
    "arguments",
    [("curate", "in", "--output", "a"), ("captions", "frequencies", "a"), ("versions", "a")],
    ids=lambda arguments: arguments[0],
)
def test_links_in_a_circle_are_a_named_error(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    Path("in").mkdir()
    _, err = command(*arguments, check=2)
    assert "Error: " in err


@pytest.mark.parametrize("source", ["", "no-such-folder"])
def test_a_source_that_is_none(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    _, err = command("curate", source, "--output", "out", check=2)
    wanted = "there is no such folder" if source else "No source is named"
    assert wanted in " ".join(err.split())


def test_an_empty_list_of_sources_is_none():
    with pytest.raises(SourceError, match="the list is empty"):
        list_sources([])


def test_a_place_that_is_taken_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    _, err = command("curate", tmp_path / "in", "--output", tmp_path / "in", *CURATE, check=2)
    assert "so that nothing of yours is moved" in " ".join(err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
