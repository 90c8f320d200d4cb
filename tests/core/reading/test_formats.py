"""Which files are opened at all: plain ones, of a fixed list of formats."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

import character_curator
from character_curator.analysis.decoding import UnreadableImageError, read_image
from character_curator.imageset import ImageSet
from character_curator.reading.kinds import FORMATS, IMAGE_SUFFIXES, known_formats
from character_curator.reading.opening import opened
from character_curator.report import render
from character_curator.report.thumbnails import thumbnails

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%stdin) run\n"
REPOSITORY = Path(character_curator.__file__).parents[1]


def in_time(action, seconds=10.0):
    """Do something that must not wait for ever."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for something that never comes"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.eps"])
def test_postscript_is_no_image(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(UnidentifiedImageError), opened(path):
        pass
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(path)


def test_every_name_that_is_taken_has_its_format():
    Image.init()
    registered = {Image.EXTENSION.get(suffix) for suffix in IMAGE_SUFFIXES} - {None}
    assert registered <= FORMATS
    assert {"PNG", "JPEG", "WEBP", "TIFF"} <= set(known_formats()) <= FORMATS
    assert not {"EPS", "PDF", "WMF", "FITS", "HDF5"} & FORMATS


def test_images_are_opened_with_a_list_of_formats_everywhere():
    calls = []
    for folder in ("core", "nodes"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
                    calls.append((path.name, {word.arg for word in node.keywords}))
    assert calls
    assert [name for name, words in calls if "formats" not in words] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_never_opened(tmp_path):
    pipe = tmp_path / "x.png"
    os.mkfifo(pipe)
    Image.new("RGB", (8, 8)).save(tmp_path / "y.png")

    def listed():
        images = ImageSet.from_folder(tmp_path)
        assert images.table["rejection"].to_list() == ["unreadable", None]
        assert "not a plain file" in images.table["rejection_detail"][0]
        render(images, name="x")
        assert thumbnails([pipe]) == [None]

    in_time(listed)
    with pytest.raises(UnreadableImageError, match="not a plain file"):
        read_image(pipe)


def test_what_was_rejected_is_not_opened_for_the_report(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"no image")
    images = ImageSet.from_folder(tmp_path)

    def refuse(path, side):
        raise AssertionError(f"{path} is opened again")

    monkeypatch.setattr("character_curator.report.thumbnails.thumbnail", refuse)
    assert "unreadable" in render(images, name="x")
