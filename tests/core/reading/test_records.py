"""Generation records that make no sense, and names that are no text: read with care, and said."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image, PngImagePlugin

from character_curator.generation import png
from character_curator.generation.reproduce import NoRecordError, backend_of, read
from character_curator.imageset import PARAMETERS_KEY, ImageSet
from character_curator.json_text import JsonError, parse
from character_curator.naming import disk_name, located, table_name

SOUND = {"subject": "char1", "seed": 7, "scenario": 1, "take": 1, "kind": "scenario"}
SENSELESS = {
    "a huge seed": {**SOUND, "seed": 10**30},
    "a seed below all": {**SOUND, "seed": -(2**63) - 1},
    "a huge scenario": {**SOUND, "scenario": 2**31},
    "no number": json.dumps({**SOUND, "seed": float("nan")}),
    "no end": json.dumps({**SOUND, "settings": {"guidance": float("inf")}}),
    "half a character": json.dumps({**SOUND, "prompt": "a\ud800b"}),
    "half a key": json.dumps({**SOUND, "a\ud800b": 1}),
    "deep": "[" * 10_000 + "]" * 10_000,
    "deep within": '{"seed": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "no table": "[1, 2]",
    "no JSON": "{seed}",
    "many digits": '{"seed": ' + "9" * 5000 + "}",
}


def write(path, text):
    info = PngImagePlugin.PngInfo()
    info.add_text(PARAMETERS_KEY, text if isinstance(text, str) else json.dumps(text))
    Image.new("RGB", (8, 8), (len(path.name), 0, 0)).save(path, pnginfo=info)


def test_a_record_that_makes_no_sense_is_ignored_and_said(tmp_path):
    for number, text in enumerate(SENSELESS.values()):
        write(tmp_path / f"{number:02d}.png", text)
    write(tmp_path / "sound.png", SOUND)
    images = ImageSet.from_folder(tmp_path)
    table = images.table
    assert table["rejection"].null_count() == len(SENSELESS) + 1
    assert table["seed"].to_list() == [None] * len(SENSELESS) + [7]
    assert table["generation"].null_count() == len(SENSELESS)
    assert any(note.startswith(f"{len(SENSELESS)} images with a gen") for note in images.notes)
    assert not [name for name in table.columns if name.startswith("_")]
    images.write(tmp_path / "images.parquet")
    assert ImageSet.read(tmp_path / "images.parquet").table.equals(table)


@pytest.mark.parametrize("text", SENSELESS.values(), ids=SENSELESS.keys())
def test_nothing_is_reproduced_from_it(tmp_path, text):
    write(tmp_path / "a.png", text)
    with pytest.raises(NoRecordError):
        read(tmp_path / "a.png")
    png.read_record((tmp_path / "a.png").read_bytes())


MALFORMED = [
    {"settings": []}, {"batch": {}},
    {"batch": 3}, {"batch": {"size": 10**9, "row": 0}}, {"batch": {"size": 2, "row": 2}},
    {"batch": {"size": "2", "row": 0}}, {"conditions": {}}, {"conditions": {"device": "cpu"}},
    {"noise_seed": "x"}, {"noise_seed": -1}, {"prompt": 7}, {"seed": None}, {"take": []},
]  # fmt: skip


@pytest.mark.parametrize("change", MALFORMED, ids=str)
def test_a_record_of_another_form_is_refused(tmp_path, change):
    whole = {
        **SOUND, "category": "", "scenario_name": "", "prompt": "p", "negative_prompt": "",
        "caption": "", "noise_seed": 1, "request": "0" * 64, "batch": {"size": 2, "row": 0},
        "settings": {"backend": "diffusers", "model": "miniature"},
        "conditions": {"device": {"kind": "cpu"}},
    }  # fmt: skip
    write(tmp_path / "a.png", whole)
    assert read(tmp_path / "a.png")[0] == whole
    write(tmp_path / "a.png", {**whole, **change})
    with pytest.raises(NoRecordError, match="malformed"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "change", [{"model": 7}, {"scheduler": "x"}, {"loras": [1]}, {"steps": "4"}]
)
def test_settings_of_another_form_are_refused(tmp_path, change):
    settings = {
        "backend": "diffusers", "model": "miniature", "scheduler": {"class": "X", "config": {}},
        "steps": 4, "guidance": 1.0, "width": 64, "height": 64, "dtype": "auto", "loras": [],
        "variant": None, "safety_checker": False,
    }  # fmt: skip
    with pytest.raises(NoRecordError, match="malformed"):
        backend_of(tmp_path / "a.png", {**settings, **change}, {"device": {"kind": "cpu"}})


def test_json_is_read_with_care():
    assert parse(b'{"a": [1, null]}', strict=True) == {"a": [1, None]}
    assert parse('{"a": NaN}')["a"] != parse('{"a": NaN}')["a"]
    for text in ("[" * 100_000, "[" * 100_000 + "]" * 100_000, "", b"\xff", "{"):
        with pytest.raises(JsonError):
            parse(text)


@pytest.mark.parametrize("name", ["a.png", "ä.png", "a\udcff.png", "\udcc3(.png", r"a\xff.png"])
def test_a_name_comes_back(name):
    shown = table_name(name)
    shown.encode()
    assert table_name(shown) == shown
    if "\\" not in name:
        assert disk_name(shown) == name


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_a_file_whose_name_is_no_text_is_listed_and_found(tmp_path):
    folder = os.fsencode(tmp_path) + b"/f\xe9"
    os.mkdir(folder)
    for name in (b"\xff.png", b"b\\xff.png"):
        with open(folder + b"/" + name, "wb") as file:
            Image.new("RGB", (8, 8)).save(file, "PNG")
    with open(folder + b"/\xff.txt", "w") as file:
        file.write("a caption")
    images = ImageSet.from_folder(os.fsdecode(folder))
    assert images.table["path"].to_list() == [r"b\xff.png", r"\xff.png"]
    assert images.table["caption"].to_list() == [None, "a caption"]
    assert all(path.is_file() for path in images.paths())
    images.write(tmp_path / "images.parquet")
    again = ImageSet.read(tmp_path / "images.parquet")
    assert again.root == images.root
    assert [path.name for path in again.paths()] == [r"b\xff.png", "\udcff.png"]
    assert located(again.root, "absent") == again.root / "absent"
