"""The versions of a dataset: listed, named, and brought back."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from character_curator import atomic, restore, versions
from character_curator.cli import main
from character_curator.damages import collected_damage
from character_curator.dataset import export, find_version, verify
from character_curator.dataset.checksums import (
    NotADatasetError,
    add_later,
    read_checksums,
    write_list,
)
from character_curator.dataset.facts import fingerprint
from character_curator.dataset.restoring import VersionDamagedError
from character_curator.dataset.shared_images import stored_image
from character_curator.dataset.trained_loras import training_fingerprint
from character_curator.dataset.verdict import card_with_verdict, report_with
from character_curator.dataset.version_list import NoSuchVersionError
from character_curator.dataset.version_record import fingerprint_in, read_record
from character_curator.imageset import content_hash
from character_curator.lora.adapters import LoraSettings
from character_curator.lora.file import to_bytes
from character_curator.lora.header import LoraCard, metadata
from character_curator.training.data.examples import read_examples
from tests.support.images import make_images


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "raw", 12, selected=6)


@pytest.fixture
def place(images, tmp_path) -> Path:
    """A dataset of three versions: of six images, of four, and of four with other captions."""
    output = tmp_path / "set"
    export(images, output, name="x", recipe={"quality": {"minimum": 0.7}}, report=False)
    fewer = images.with_columns(images.table["selected"] & (images.table["selection_rank"] < 5))
    export(fewer, output, name="x", report=False)
    export(fewer, output, name="x", captions="trigger", report=False)
    return output


def command(*arguments, check=0):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    assert code == check, out.getvalue() + err.getvalue()
    return out.getvalue(), " ".join(err.getvalue().split())


def a_lora(path, **card):
    tensors = {"unet.a.lora_A.weight": torch.ones(1, 2), "unet.a.lora_B.weight": torch.ones(2, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    says = metadata(LoraCard(path.stem, "stable-diffusion-v1", **card), LoraSettings())
    path.write_bytes(to_bytes(tensors, says))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "version.json"
    }


def test_each_version_has_a_record_that_names_its_parent(place):
    found = versions(place)
    assert [line.version.number for line in found.lines] == [1, 2, 3]
    assert [line.version.is_newest for line in found.lines] == [False, False, True]
    before = None
    for line in found.lines:
        record = line.version.record
        assert record.fingerprint == line.version.fingerprint == fingerprint_in(line.version.folder)
        assert record.recipe == read_checksums(line.version.folder)["recipe.toml"]
        assert record.tools["character-curator"]
        assert record.tools["polars"]
        assert (record.parent and (record.parent.number, record.parent.fingerprint)) == before
        before = (record.number, record.fingerprint)


def test_the_list_says_images_quality_and_what_each_takes_on_disk(place):
    found = versions(place)
    assert [len(line.version.images) for line in found.lines] == [6, 4, 4]
    assert found.lines[0].quality == pytest.approx(
        sum(r["quality_score"] for r in found.lines[0].version.metadata().values()) / 6
    )
    files = {
        (s.st_dev, s.st_ino): s.st_size
        for folder in (place, place.with_name("set.versions"))
        for path in folder.rglob("*")
        if path.is_file() and (s := path.stat())
    }
    assert found.size_bytes == sum(files.values())
    for line in found.lines:
        folder = line.version.folder
        assert line.size_bytes == sum(p.stat().st_size for p in folder.iterdir())
        assert line.own_bytes < line.size_bytes
    # Two images are in the first version alone.
    only = set(found.lines[0].version.images) - set(found.lines[1].version.images)
    texts = [p for p in found.lines[0].version.folder.iterdir() if p.suffix != ".png"]
    pictures = [found.lines[0].version.folder / name for name in only]
    assert found.lines[0].own_bytes == sum(p.stat().st_size for p in [*texts, *pictures])


def test_what_was_exported_before_there_were_records_is_listed_too(place):
    first = place.with_name("set.versions") / "v0001"
    (first / "version.json").unlink()
    os.utime(first / "recipe.toml", (1_000_000_000, 1_000_000_000))
    line = versions(place).lines[0]
    assert line.version.record is None
    assert line.version.time == "2001-09-09T01:46:40+00:00"
    assert (len(line.version.images), line.version.number) == (6, 1)
    out, err = command("versions", place, "--json")
    assert json.loads(out)["versions"][0]["recorded"] is False
    assert "~ has no record of its version" in err
    assert restore(place, 1).fingerprint == line.version.fingerprint


def test_an_edited_record_is_none(place):
    path = place / "version.json"
    path.write_text(path.read_text().replace('"number": 3', '"number": 7'))
    assert read_record(place) is None
    assert find_version("latest", place).number == 3  # by what is kept beside it


def test_a_version_is_named_by_number_folder_or_latest(place):
    first = place.with_name("set.versions") / "v0001"
    assert find_version("1", place).folder == find_version(1, first).folder == first
    assert find_version(first).number == 1
    assert find_version(place) == find_version("latest", place) == find_version(3, place)
    for name, dataset, text in (
        (9, place, "1, 2, 3 are"),
        (1, None, "of which dataset"),
        ("nowhere", place, "neither a number, nor 'latest'"),
    ):
        with pytest.raises(NoSuchVersionError, match=text):
            find_version(name, dataset)
    with pytest.raises(NotADatasetError):
        versions(place.parent)


def test_a_copy_keeps_its_number(place, tmp_path):
    copy = shutil.copytree(place, tmp_path / "elsewhere" / "set")
    assert [line.version.number for line in versions(copy).lines] == [3]


def test_restoring_makes_a_new_version_equal_to_the_old(place):
    first = place.with_name("set.versions") / "v0001"
    newest = contents(place)
    done = restore(place, 1)
    assert (done.version, done.source, done.unchanged) == (4, 1, False)
    assert contents(place) == contents(first)
    assert contents(done.previous) == newest
    assert done.previous.name == "v0003"
    assert verify(place).ok
    record = read_record(place)
    assert (record.number, record.restored, record.parent.number) == (4, 1, 3)
    assert record.fingerprint == done.fingerprint == read_record(first).fingerprint
    for image in place.glob("*.png"):
        assert image.samefile(first / image.name)
    # What is equal already is left alone.
    again = restore(place, "1")
    assert (again.version, again.unchanged, again.previous) == (4, True, None)
    assert len(versions(place).lines) == 4


def test_a_verdict_stays_with_the_version_that_it_is_of(place):
    first = place.with_name("set.versions") / "v0001"
    card = first / "README.md"
    plain = card.read_bytes()
    text = card_with_verdict(plain.decode(), "READY")
    card.write_text(text)
    sums = first / "SHA256SUMS"
    listed = read_checksums(first)
    write_list(first, {**listed, "README.md": content_hash(card)})
    (first / "verification.json").write_text("{}")
    assert verify(first).ok
    restore(place, 1)
    assert (place / "README.md").read_bytes() == plain
    assert not (place / "verification.json").exists()
    assert sums.is_file()


def test_what_was_added_to_a_report_stays_with_its_version(images, tmp_path):
    output = tmp_path / "set"
    plain = (export(images, output, name="x").folder / "report.html").read_bytes()
    mark = read_record(output).fingerprint
    assert add_later(output, "report.html", lambda text: report_with(text, {"verdict": "READY"}))
    assert (output / "report.html").read_bytes() != plain
    assert verify(output).ok
    assert export(images, output, name="x").unchanged
    export(images, output, name="y")
    restore(output, 1)
    assert (output / "report.html").read_bytes() == plain
    assert read_record(output).fingerprint == mark
    assert verify(output).ok


@pytest.mark.parametrize("step", [1, 2])
def test_what_is_added_and_killed_in_between_is_no_damage(images, tmp_path, monkeypatch, step):
    output = tmp_path / "set"
    export(images, output, name="x")
    for verdict in ("READY", "NOT READY"):
        written = atomic.write_text

        done = []

        def killed(path, text, done=done, write=written):
            if len(done) == step:
                raise KeyboardInterrupt
            done.append(path)
            write(path, text)

        monkeypatch.setattr(atomic, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            add_later(
                output, "report.html", lambda text, v=verdict: report_with(text, {"verdict": v})
            )
        monkeypatch.setattr(atomic, "write_text", written)
        assert verify(output).ok
        assert export(images, output, name="x").unchanged
        assert add_later(
            output, "report.html", lambda text, v=verdict: report_with(text, {"verdict": v})
        )
        assert f"-->{verdict}<!--" in (output / "report.html").read_text()
        assert read_checksums(output)["report.html"] == content_hash(output / "report.html")
    (output / "report.html").write_text("mine")
    assert verify(output).changed == ("report.html",)


def test_what_is_damaged_is_taken_from_another_version_or_refused(place):
    first = place.with_name("set.versions") / "v0001"
    shared, lone = (
        next(first / n for n in find_version(1, place).images if (place / n).is_file() is here)
        for here in (True, False)
    )
    shared.unlink()
    with collected_damage() as found:
        assert restore(place, 1).elsewhere == (shared.name,)
    assert [str(one) for one in found] == [
        f"1 damaged file of version 1 in {first}: taken from another version"
    ]
    assert verify(place).ok
    restore(place, 2)
    newest = contents(place)
    kept = sorted(path.name for path in first.parent.iterdir())
    for path in [lone, place.with_name("set.versions") / "v0004" / lone.name]:
        path.unlink()
        path.write_bytes(b"damaged")
    with pytest.raises(VersionDamagedError, match=f"{lone.name}.*reproduce"):
        restore(place, 1)
    assert contents(place) == newest
    assert sorted(path.name for path in first.parent.iterdir()) == kept
    assert not list(place.parent.glob(".set.tmp-*"))


def test_the_newest_is_mended_from_those_that_are_kept(place):
    image = next(place.glob("*.png"))
    image.unlink()
    done = restore(place, "latest")
    assert (done.version, done.damaged, done.unchanged) == (4, (image.name,), False)
    assert verify(place).ok


def test_a_dataset_whose_folder_is_gone_comes_back(place):
    shutil.rmtree(place)
    done = restore(place, "latest")
    assert (done.version, done.source) == (3, 2)
    assert verify(place).ok


def test_a_version_whose_images_lie_beside_it_is_whole(place):
    """As a file system without hard links leaves it."""
    first = find_version(1, place)
    for name in first.images:
        stored = stored_image(place, first.digests[name], name)
        stored.parent.mkdir(exist_ok=True)
        (first.folder / name).rename(stored)
    line = versions(place).lines[0]
    assert line.size_bytes > sum(path.stat().st_size for path in first.folder.iterdir())
    restore(place, 1)
    assert verify(place).ok
    assert len(list(place.glob("*.png"))) == 6


def test_a_version_of_another_dataset_is_not_restored(place, images, tmp_path):
    other = export(images, tmp_path / "other", name="y", report=False).folder
    with pytest.raises(NoSuchVersionError, match="is no version of"):
        restore(place, other)


def test_loras_are_found_by_what_their_headers_say(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, _ = (line.version for line in versions(place).lines)
    examples, _ = read_examples(second.folder)
    mark = fingerprint(examples)
    assert training_fingerprint(second.folder, second.digests) == mark
    says = {"number": 1, "fingerprint": first.fingerprint, "altered": 2}
    a_lora(tmp_path / "lora" / "new.safetensors", dataset_fingerprint="f", dataset_version=says)
    a_lora(tmp_path / "far" / "down" / "old.safetensors", dataset_fingerprint=mark)
    a_lora(tmp_path / "stranger.safetensors", dataset_fingerprint="e")
    (tmp_path / "broken.safetensors").write_bytes(b"no such file")

    def told(*more):
        return [
            [(lora.file.stem, lora.said, lora.altered) for lora in line.loras]
            for line in versions(place, more).lines
        ]

    assert told() == [[("new", 1, 2)], [], []]
    assert told(tmp_path / "far") == [[("new", 1, 2)], [("old", None, 0)], []]
    out, err = command("versions", place, "--loras", tmp_path / "far", "--json")
    assert Path(json.loads(out)["versions"][1]["loras"][0]["file"]).stem == "old"
    assert (
        f"Trained on version 1, 2 images or captions of which were not as exported: {tmp_path}"
        in err
    )
    assert f"Trained on version 2: {tmp_path / 'far' / 'down' / 'old.safetensors'}" in err


def test_the_commands_restore_and_list(place):
    _, err = command("restore", place, 1)
    assert "Version 4 of" in err
    assert "is equal to version 1, file by file; the one before is kept in" in err
    _, err = command("restore", place, "latest")
    assert "nothing was done" in err
    out, err = command("versions", place, "--json")
    assert [v["number"] for v in json.loads(out)["versions"]] == [1, 2, 3, 4]
    assert "4 (latest)" in err
    out, _ = command("restore", place, 8, "--json", check=2)
    assert json.loads(out)["error"] == "NoSuchVersionError"


def test_masks_are_files_of_a_version_and_none_of_its_images(images, tmp_path):
    done = export(images, tmp_path / "set", name="x", masks="face", report=False)
    assert len(list((done.folder / "masks").iterdir())) == 6
    (version,) = (line.version for line in versions(done.folder).lines)
    assert len(version.images) == 6
    examples, _ = read_examples(done.folder)
    assert version.training_fingerprint == fingerprint(examples)
    export(images, tmp_path / "set", name="x", report=False)
    assert restore(done.folder, 1).fingerprint == version.fingerprint
    assert verify(done.folder).ok
    assert len(list((done.folder / "masks").iterdir())) == 6
