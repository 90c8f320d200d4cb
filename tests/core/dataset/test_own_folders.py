"""What this program has written is told from what somebody else has: by marks, not by names."""

from __future__ import annotations

import json
import shutil

import pytest

from character_curator.dataset import CuratedDataset, export, verify
from character_curator.dataset.publish import OutputError, versions
from character_curator.errors import CuratorError
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.reading.own import drawn_in, is_dataset, is_own_output
from character_curator.training.data.examples import read_examples
from tests.support.images import make_images


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "raw", 12, selected=6)


@pytest.mark.parametrize(
    "listed",
    [
        "0" * 64 + "  debian-12.iso\n",
        "no list at all\n",
        "".join(f"{'0' * 64}  {name}\n" for name in ("README.md", "recipe.toml", "metadata.jsonl")),
    ],
)
def test_a_folder_with_a_list_of_checksums_of_its_own_is_not_moved(images, tmp_path, listed):
    iso = tmp_path / "iso"
    iso.mkdir()
    (iso / "SHA256SUMS").write_text(listed)
    (iso / "debian-12.iso").write_bytes(b"precious")
    (iso / "version.json").write_text('{"format": 1, "version": 12}')
    with pytest.raises(OutputError, match="so that nothing of yours is moved"):
        export(images, iso, name="x")
    assert (iso / "debian-12.iso").read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["iso", "raw"]


def test_a_dataset_of_before_there_was_a_record_is_one(images, tmp_path):
    place = export(images, tmp_path / "set", name="x").folder
    (place / "version.json").unlink()
    assert is_dataset(place)
    assert export(images, place, name="y").previous == tmp_path / "set.versions" / "v0001"


@pytest.mark.parametrize("lost", ["SHA256SUMS", "version.json"])
def test_either_mark_alone_is_enough(images, tmp_path, lost):
    place = export(images, tmp_path / "set", name="x").folder
    (place / lost).unlink()
    assert is_dataset(place)
    again = export(images, place, name="x")
    assert again.unchanged == (lost == "version.json")
    assert verify(place).ok


def gone(place):
    next(place.glob("*.png")).unlink()


def cut_short(place):
    path = next(place.glob("*.png"))
    data = path.read_bytes()
    path.unlink()  # another file than the source, as a program leaves it that replaces files
    path.write_bytes(data[: len(data) // 2])


def other_caption(place):
    next(place.glob("*.txt")).write_text("another one\n")


def emptied(place):
    (place / "metadata.json").write_text("{}")


@pytest.mark.parametrize("harm", [gone, cut_short, other_caption, emptied])
def test_what_was_damaged_becomes_a_version_and_is_said(images, tmp_path, harm):
    place = export(images, tmp_path / "set", name="x").folder
    whole = (place / "SHA256SUMS").read_bytes()
    harm(place)
    (damaged,) = verify(place).missing + verify(place).changed
    again = export(images, place, name="x")
    assert (again.version, again.unchanged, again.damaged) == (2, False, (damaged,))
    assert verify(place).ok
    assert (place / "SHA256SUMS").read_bytes() == whole
    # Nothing is overwritten: what was found is kept as it was.
    found = verify(versions(place)[0])
    assert found.missing + found.changed == (damaged,)
    (note,) = again.notes
    assert damaged in note
    assert "version 2 is whole" in note
    assert export(images, place, name="x").unchanged


def test_files_beside_it_are_no_damage(images, tmp_path):
    place = export(images, tmp_path / "set", name="x").folder
    (place / "char_0768x0768_sd.npz").write_bytes(b"a trainer's cache")
    assert export(images, place, name="x").unchanged


def test_what_was_written_below_the_source_is_no_source(images, tmp_path):
    source = images.root
    export(images, source / "ds", name="x")
    export(images, source / "ds", name="y")
    with FeatureStore(source / "ds.work" / "features.sqlite"):
        (source / "ds.work" / "rejected.jpg").write_bytes(b"a sheet")
        found = ImageSet.from_folder(source)
    assert found.table["path"].to_list() == sorted(path.name for path in source.glob("*.png"))
    assert found.notes == (
        "3 folders were written by character-curator and not read as images: ds, ds.versions, "
        "ds.work. To read one, name it as a source itself.",
    )
    # A folder of somebody else's is read, whatever it is called.
    (source / "ds.work" / "features.sqlite").unlink()
    (source / "ds.work" / "features.sqlite-wal").unlink(missing_ok=True)
    (source / "other.versions").mkdir()
    shutil.copy(next(source.glob("*.png")), source / "other.versions" / "mine.png")
    names = ImageSet.from_folder(source).table["path"].to_list()
    assert {"ds.work/rejected.jpg", "other.versions/mine.png"} <= {*names}


def test_what_shows_a_training_is_no_image_of_the_dataset_beside_its_lora(images, tmp_path):
    place = export(images, tmp_path / "ds", name="x").folder
    for end in ("loss.png", "samples.png"):
        shutil.copy(next(place.glob("*.png")), place / f"x.{end}")
    assert len(ImageSet.from_folder(place)) == len(CuratedDataset(place)) == 8
    (place / "x.safetensors").write_bytes(b"weights")
    found = ImageSet.from_folder(place)
    assert len(found) == len(CuratedDataset(place)) == 6
    assert "2 files were written by character-curator and not read as images: x.loss.png" in str(
        found.notes
    )
    assert drawn_in(place) == {"x.loss.png", "x.samples.png"}


def test_a_dataset_that_is_named_is_read(images, tmp_path):
    place = export(images, tmp_path / "all" / "ds", name="x").folder
    assert len(ImageSet.from_folder(place)) == 6
    assert len(ImageSet.from_folder([images.root, place])) == 18
    with pytest.raises(CuratorError, match="1 folder was written by character-curator"):
        ImageSet.from_folder(tmp_path / "all")


def test_a_training_reads_no_dataset_below_its_folder_and_says_so(images, tmp_path):
    place = export(images, tmp_path / "set", name="x").folder
    export(images, place / "inner", name="x")
    notes: list[str] = []
    examples, _ = read_examples(place, notes=notes)
    assert len(examples) == 6
    assert any("not read as images: inner" in note for note in notes)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"program": "another"}', "[" * 100_000])
def test_no_other_file_of_that_name_is_a_mark(tmp_path, text):
    (tmp_path / "version.json").write_text(text)
    assert not is_own_output(tmp_path)


def test_a_killed_export_is_finished_by_the_record_and_the_list(images, tmp_path):
    place = export(images, tmp_path / "set", name="x").folder
    place.rename(tmp_path / ".set.tmp-0badcafe")
    again = export(images, tmp_path / "set", name="x")
    assert (again.version, again.unchanged) == (1, True)
    assert json.loads((place / "version.json").read_text())["number"] == 1
