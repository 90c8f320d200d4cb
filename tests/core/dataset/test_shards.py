"""Shards of WebDataset: the same bytes each time, bounded, and read back by everybody."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from character_curator import json_text
from character_curator.dataset import CuratedDataset, export
from character_curator.dataset.shards import INDEX_FILE, ShardsError, write_shards
from character_curator.imageset import ImageSet
from tests.support.commands import command
from tests.support.images import make_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """An exported dataset, to be read only."""
    folder = tmp_path_factory.mktemp("shards")
    images = make_images(folder / "images", 30, selected=20)
    return export(images, folder / "my set", name="set", report=False).folder


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_same_dataset_gives_the_same_bytes(dataset, tmp_path):
    one = write_shards(dataset, tmp_path / "one", count=3)
    copy = shutil.copytree(dataset, tmp_path / "elsewhere" / "my set")
    two = write_shards(copy, tmp_path / "two", count=3)
    assert (one.shards, one.samples) == (3, 20)
    assert files_in(one.folder) == files_in(two.folder)
    assert sorted(files_in(one.folder)) == [INDEX_FILE, *(f"my-set-{n:06d}.tar" for n in range(3))]
    assert write_shards(dataset, tmp_path / "one", count=3).unchanged
    with pytest.raises(ShardsError, match="other shards"):
        write_shards(dataset, tmp_path / "one", count=4)
    shard = one.folder / "my-set-000001.tar"
    shard.write_bytes(shard.read_bytes().replace(b"char1", b"char2"))
    with pytest.raises(ShardsError, match="damaged"):
        write_shards(dataset, tmp_path / "one", count=3)
    with pytest.raises(ShardsError, match="21 shards of 20 images"):
        write_shards(dataset, tmp_path / "three", count=21)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "one", "two"]


def test_no_shard_is_larger_than_is_allowed(dataset, tmp_path, monkeypatch):
    made = write_shards(dataset, tmp_path / "small", size=40_960)
    index = json.loads((made.folder / INDEX_FILE).read_text())["shardlist"]
    sizes = [(made.folder / one["url"]).stat().st_size for one in index]
    assert sizes == [one["filesize"] for one in index]
    assert max(sizes) <= 40_960
    assert len(sizes) == made.shards > 1
    assert min(sizes[:-1]) > 25_000  # none is begun before the last is full
    assert sum(one["nsamples"] for one in index) == 20


def test_webdatasets_own_library_reads_them(dataset, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    made = write_shards(dataset, tmp_path / "shards", count=2)
    known = CuratedDataset(dataset).metadata
    urls = str(made.folder / "my-set-{000000..000001}.tar")
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 20
    for sample in samples:
        told = json.loads(sample["json"])
        name = told["file_name"]
        assert sample["png"] == (dataset / name).read_bytes()
        assert sample["txt"].decode().strip() == known[name]["caption"] == told["caption"]
        assert told["quality_score"] == known[name]["quality_score"]
        more = json.loads(told["more"])
        assert {**told, **more}.keys() >= known[name].keys() - {"caption"}


def test_hugging_face_reads_them(dataset, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    made = write_shards(dataset, tmp_path / "shards", count=2)
    files = sorted(str(path) for path in made.folder.glob("*.tar"))
    read = datasets.load_dataset(
        "webdataset", data_files={"train": files}, split="train", cache_dir=str(tmp_path / "hf")
    )
    assert len(read) == 20
    for row in read:
        name = row["json"]["file_name"]
        assert np.array_equal(np.asarray(row["png"]), pixels((dataset / name).read_bytes()))
        assert row["txt"].strip() == row["json"]["caption"]


def test_they_are_images_again(dataset, tmp_path):
    made = write_shards(dataset, tmp_path / "shards", count=2)
    images = ImageSet.from_folder(made.folder, unpacked=tmp_path / "work")
    assert len(images.accepted) == 20
    before = ImageSet.from_folder(dataset)
    columns = ["hash", "caption", "seed", "prompt"]
    assert (
        images.table.select(columns).sort("hash").equals(before.table.select(columns).sort("hash"))
    )


def test_a_folder_with_odd_names_and_masks(tmp_path):
    folder = tmp_path / "photos"
    make_images(folder, 3)
    names = ["a.b.png", "a-b.png", "c.png"]
    for path, name in zip(sorted(folder.iterdir()), names, strict=True):
        path.rename(folder / name)
    (folder / "c.txt").write_text("a caption")
    Image.new("L", (48, 48), 255).save(folder / "c-masklabel.png")
    out, _ = command("export", folder, "--output", tmp_path / "out", "--shards", 1, "--json")
    assert json.loads(out)["images"] == 3
    assert "2 of 3 images have no caption" in json.loads(out)["notes"][0]
    images = ImageSet.from_folder(tmp_path / "out", unpacked=tmp_path / "work")
    assert sorted(images.table["path"]) == ["a-b-2.png", "a-b.png", "c.png"]
    assert images.table["mask_file"].drop_nulls().to_list() == ["c-masklabel.png"]
    assert images.table["caption"].drop_nulls().to_list() == ["a caption"]


def test_numbers_and_texts_that_no_reader_takes_cost_their_own_value(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    known = json.loads((copy / "metadata.json").read_text())
    first, second, *_ = known
    known[first] |= {"quality_score": float("nan"), "cluster_name": "half \ud800", "\udc80": 1}
    (copy / second).with_suffix(".txt").unlink()
    known[second]["caption"] = "half \udfff"
    (copy / "metadata.json").write_text(json.dumps(known))
    made = write_shards(copy, tmp_path / "made")
    with tarfile.open(made.folder / "copy-000000.tar") as shard:
        told = [shard.extractfile(one).read() for one in shard if one.name.endswith(".json")]
    rows = {row["file_name"]: row for row in map(json_text.parse, told)}
    assert rows[second]["caption"] == "half ?"
    assert json.loads(rows[first]["more"])["quality_score"] is None
    assert all(b"NaN" not in text for text in told)


def test_what_is_damaged_or_no_image_is_said_and_left_out(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (tmp_path / "secret").write_text("of the user")
    (copy / "link.png").symlink_to(tmp_path / "secret")
    first, second, *_ = sorted(path.name for path in copy.glob("char*.png"))
    (copy / first).unlink()
    (copy / second).write_bytes(b"")
    (copy / "pipe.png").mkdir() if os.name == "nt" else os.mkfifo(copy / "pipe.png")
    made = write_shards(copy, tmp_path / "made")
    assert made.samples == 18
    assert b"of the user" not in b"".join(files_in(made.folder).values())
    assert made.notes[0].startswith("2 of ")
    assert first in made.notes[0]
    assert made.notes[1].startswith("3 files cannot be opened as images, and are left out: ")
    whole = write_shards(dataset, tmp_path / "whole")
    assert not any("left out" in note or "changed" in note for note in whole.notes)
