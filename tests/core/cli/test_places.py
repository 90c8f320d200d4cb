"""Where nothing is to be read, or nothing can be written, a command ends at once and says so."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from character_curator.atomic import check_place
from character_curator.cli import main
from character_curator.errors import WriteError


@pytest.mark.parametrize(
    "arguments",
    [
        ["curate", "IMAGES", "--output"],
        ["demo", "--output"],
        ["reproduce", "IMAGE", "--output"],
        ["train", "IMAGES", "--base", "miniature", "--output"],
        ["evaluate", "x.safetensors", "--dataset", "IMAGES", "--output"],
        ["export", "IMAGES", "--output"],
        ["miniature", "train", "--output"],
        ["diff", "1", "2", "--html"],
    ],
    ids=" ".join,
)
def test_a_path_below_a_file_is_refused_before_the_work(arguments, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    named = {"IMAGES": str(tmp_path), "IMAGE": str(tmp_path / "a.png")}
    place = tmp_path / "a.png" / "below" / "result"
    given = [named.get(one, one) for one in arguments]
    assert main([*given, str(place), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "WriteError"
    assert "a.png is not a folder" in said["message"]
    assert sorted(os.listdir(tmp_path)) == ["a.png"]


def test_a_folder_that_takes_no_names_is_refused(tmp_path, monkeypatch):
    check_place(tmp_path / "new" / "result.png")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    with pytest.raises(WriteError, match=r"nothing may be written into .*Choose a place"):
        check_place(tmp_path / "new" / "result.png")


@pytest.mark.parametrize(
    ("folder", "error"), [("nowhere", "CaptionFolderError"), ("empty", "EmptyFolderError")]
)
def test_the_history_of_nothing_is_an_error(folder, error, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["captions", "history", str(tmp_path / folder), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == error


def test_the_history_of_images_whose_captions_nobody_edited_says_so(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["captions", "history", str(tmp_path), "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out) == []
    assert "No captions were edited here" in found.err
