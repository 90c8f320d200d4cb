"""Damage, odd files and steering names against ``curate``: nothing wrong is believed or obeyed."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
from contextlib import closing
from shutil import copy

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator.analysis.embeddings import ANALYSER
from character_curator.dataset import export
from character_curator.imageset import ImageSet
from tests.support.commands import command, curate, draw_people
from tests.support.faults.damage import FOUND, WRONG, dataset_places, store_places
from tests.support.images import make_images
from tests.support.tiny_analysis import needs_miniature_faces

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = needs_miniature_faces


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("people") / "in")


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    """The folder of a whole run, and its table."""
    output = tmp_path_factory.mktemp("whole") / "out"
    result, _, table = curate(people, output)
    assert result["computed"]
    return output, table


def vectors(table):
    """Return the embeddings of a table, one after the other; images without one have none."""
    return np.frombuffer(b"".join(table["embedding"].drop_nulls()), dtype="<f2")


@pytest.mark.parametrize("times", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_damaged_store_gives_the_same_result(people, undisturbed, tmp_path, times):
    output, expected = undisturbed
    whole = (output.with_name("out.work") / "features.sqlite").read_bytes()
    rng = np.random.default_rng(0)
    again = said = 0
    for number in range(times):
        work = tmp_path / f"{number}"
        work.mkdir()
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 21)):
            data[place] ^= 1 << int(rng.integers(8))
        (work / "features.sqlite").write_bytes(data)
        result, told, table = curate(people, tmp_path / "out", work=work)
        assert table.drop("embedding").equals(expected.drop("embedding")), "another result"
        # An image that is embedded by itself differs in the last bit from one in a batch.
        missing = [each["embedding"].is_null().to_list() for each in (table, expected)]
        assert missing[0] == missing[1]
        one, other = vectors(table), vectors(expected)
        assert (np.abs(one - other) <= np.spacing(np.abs(other))).all(), "another result"
        again += bool(result["computed"])
        said += "damaged" in told
    assert again >= times // 3
    assert said >= again


@pytest.mark.parametrize("places", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_found_or_harmless(undisturbed, tmp_path, places):
    output, _ = undisturbed
    store = store_places(output.with_name("out.work") / "features.sqlite", tmp_path / "a", places)
    assert store[WRONG] == 0
    assert store[FOUND] > places // 2
    dataset, wrong = dataset_places(output, tmp_path / "b", places)
    assert wrong == []
    assert dataset[FOUND] > places // 2


def test_one_flipped_bit_of_an_embedding_is_counted(people, undisturbed, tmp_path):
    output, expected = undisturbed
    work = tmp_path / "out.work"
    work.mkdir()
    copy(output.with_name("out.work") / "features.sqlite", work)
    with closing(sqlite3.connect(work / "features.sqlite")) as store, store:
        row = "analyser = ? AND hash = (SELECT max(hash) FROM feature WHERE analyser = ?)"
        found = store.execute(f"SELECT value FROM feature WHERE {row}", (ANALYSER, ANALYSER))
        value = found.fetchone()[0]
        value = bytes([value[0] ^ 64]) + value[1:]
        store.execute(f"UPDATE feature SET value = ? WHERE {row}", (value, ANALYSER, ANALYSER))
    result, told, table = curate(people, tmp_path / "out")
    assert table.equals(expected)
    assert sum(result["computed"].values()) >= 1
    assert "1 damaged value" in told


def test_what_measures_reads_and_what_exports_does_not_is_left_out(people, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in people.iterdir():
        Image.open(path).convert("RGB").save(folder / f"{path.stem}.jpg", quality=95)
    _, _, table = curate(folder, tmp_path / "first")
    chosen = table.filter("selected")["path"].to_list()
    assert len(chosen) == 3
    for name in chosen[:2]:
        cut = only_opencv_reads((folder / name).read_bytes())
        (folder / name).write_bytes(cut)
    for _ in range(2):
        result, told, table = curate(folder, tmp_path / "second")
        assert result["chosen"] == 3
        assert set(table.filter("selected")["path"]) & set(chosen[:2]) == set()
    assert "chosen again" not in told, "it is known by now"


def only_opencv_reads(data):
    """Damage a JPEG so that OpenCV decodes it and Pillow does not."""
    import io

    import cv2

    rng = np.random.default_rng(0)
    for _ in range(5000):
        changed = bytearray(data)
        changed[int(rng.integers(2, len(data)))] = int(rng.integers(256))
        if cv2.imdecode(np.frombuffer(changed, np.uint8), cv2.IMREAD_COLOR) is None:
            continue
        try:
            with Image.open(io.BytesIO(changed)) as image:
                image.load()
        except Exception:
            return bytes(changed)
    raise AssertionError("no such damage was found")


def test_errors_are_said_however_quiet(tmp_path):
    out, err = command("curate", tmp_path / "absent", "--output", tmp_path / "out", "--quiet",
                       "--faces", "miniature", check=2)  # fmt: skip
    assert not out
    assert "EmptyFolderError" in err
    assert err.count("\n") < 8


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_names_neither_steer_the_terminal_nor_are_markup(people, tmp_path):
    folder = tmp_path / "a[/b]\x1b[31m"
    folder.mkdir(parents=True)
    for number, path in enumerate(sorted(people.iterdir())):
        (folder / f"\x1b]0;owned\x07[final]{number}.png").write_bytes(path.read_bytes())
    (folder / "\x1b[2Jbroken[b].png").write_bytes(b"no image")
    result, told, _ = curate(folder, tmp_path / "out[/c]\x1b[1m")
    assert result["chosen"] == 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", told)
    assert "out[/c]\\x1b[1m" in told.replace("\n", "")
    _, told = command("reproduce", folder / "\x1b[2Jbroken[b].png", check=2)
    assert "\\x1b[2Jbroken[b].png" in told.replace("\n", "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_request_to_end_is_as_ctrl_c(people, tmp_path, monkeypatch, name):
    number = getattr(signal, name, None)
    if number is None or os.name == "nt":
        pytest.skip("this system has no such signal")

    def ended(*arguments, **options):
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")

    # What a shell starts in the background, or nohup, ignores it: then nobody is to be stopped.
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    inherited = signal.signal(number, usual)
    monkeypatch.setattr("character_curator.pipeline.source_images", ended)
    try:
        _, told = command("curate", people, "--output", tmp_path / "out", "--faces", "miniature",
                          check=130)  # fmt: skip
        assert "Run the same command again" in told
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, inherited)


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be there")
def test_names_that_are_no_text_are_curated_and_shown_escaped(people, tmp_path):
    place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    folder = tmp_path.__class__(place) / "in"
    folder.mkdir(parents=True)
    for number, path in enumerate(sorted(people.iterdir())):
        (folder / f"\udcff{number}.png").write_bytes(path.read_bytes())
    (folder / "broken\udcfe.png").write_bytes(b"no image")
    output = folder.with_name("out\udce9")
    for _ in range(2):
        result, told, table = curate(folder, output)
        assert result["chosen"] == 3
        assert all(r"\xff" in name for name in table.filter("selected")["path"])
        assert r"caf\xe9" in told.replace("\n", "")
    assert r"broken\xfe.png" in table["path"].to_list()
    for name in ("report.html", "README.md", "recipe.toml", "facts.json", "metadata.json"):
        (output / name).read_text(encoding="utf-8")
    tomllib.loads((output / "recipe.toml").read_text(encoding="utf-8"))
    _, told = command("curate", folder / "absent\udcfd", "--output", output, check=2)
    assert r"absent\xfd" in told.replace("\n", "")


@needs_miniature_faces
def test_markup_of_names_is_text_in_the_card(people, tmp_path):
    folder = tmp_path / "10_<script>alert(1)<script> a|b"
    folder.mkdir()
    for path in people.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    curate(folder, tmp_path / "out<script>x")
    for name in ("README.md", "report.html"):
        text = (tmp_path / "out<script>x" / name).read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "<script>x" not in text.split("\n---\n", 1)[-1]


def test_a_value_is_no_link_in_the_cards_tables(tmp_path):
    images = make_images(tmp_path / "raw", 4, selected=4)
    evil = ["[x](javascript:a)", "`[x](javascript:a)", "a", "b"]
    table = images.table.with_columns(pose=pl.Series(evil), category=pl.Series(evil))
    card = export(ImageSet(table, images.root), tmp_path / "out", name="x").folder / "README.md"
    links = re.findall(r".?\[x\]\(javascript", card.read_text(encoding="utf-8"))
    assert len(links) > 4
    assert {link[0] for link in links} == {"\\"}
