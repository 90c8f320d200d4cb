import hashlib
import json
import os

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from character_curator import atomic
from character_curator.imageset import (
    EmptyFolderError,
    ImageSet,
    MissingColumnError,
    Rejection,
    UnequalVectorsError,
    content_hash,
    vector_column,
)


def image(path, size=(8, 6), **text):
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path, pnginfo=info)


def test_folder_becomes_rows_in_the_order_of_names(tmp_path):
    for name in ("b.png", "a/z.png", "a 💡.png", "c.txt", ".hidden/x.png", ".y.png"):
        image(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("x")
    images = ImageSet.from_folder(tmp_path)
    assert images.table["path"].to_list() == sorted(["a 💡.png", "a/z.png", "b.png"])
    assert images.table["width"].to_list() == [8, 8, 8]
    assert images.table["kind"].unique().to_list() == ["real"]
    assert all(path.is_file() for path in images.paths())


def test_a_generated_image_describes_itself(tmp_path):
    described = {
        "subject": "char1",
        "seed": 966983,
        "scenario": 26,
        "take": 1,
        "kind": "scenario",
        "prompt": "p",
        "noise_seed": 2**52 + 1,
        "width": 99,
        "steps": 20,
    }
    image(tmp_path / "x.png", character_curator=json.dumps(described))
    row = ImageSet.from_folder(tmp_path).table.row(0, named=True)
    assert (row["subject"], row["seed"], row["noise_seed"]) == ("char1", 966983, 2**52 + 1)
    assert row["kind"] == "scenario"
    assert row["width"] == 8, "what the file is, not what it says it is"
    assert json.loads(row["generation"])["steps"] == 20


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seed": "x", "kind": 3}', '{"request": 1}'])
def test_a_broken_description_is_ignored(tmp_path, text):
    image(tmp_path / "x.png", character_curator=text)
    row = ImageSet.from_folder(tmp_path).table.row(0, named=True)
    assert row["seed"] is None
    assert row["rejection"] is None


def test_bad_files_are_rows_with_a_reason(tmp_path):
    image(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    os.symlink(tmp_path, tmp_path / "again")
    images = ImageSet.from_folder(tmp_path)
    reasons = dict(images.table.select("path", "rejection_detail").iter_rows())
    assert "0 bytes" in reasons["empty.png"]
    assert "not an image" in reasons["text.png"]
    assert "link" in reasons["loop.png"]
    assert images.accepted.table["path"].to_list() == ["good.png"]
    assert images.rejections() == {"unreadable": 3}


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(EmptyFolderError, match="No image"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(EmptyFolderError):
        ImageSet.from_folder(tmp_path / "absent")


def rows(n):
    return ImageSet.from_rows([{"path": f"{i}.png", "hash": str(i)} for i in range(n)], "/x")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_the_first_rejection_stays(masks):
    first, second = map(np.array, zip(*masks, strict=True))
    before = rows(len(masks))
    after = before.reject(first, Rejection.NO_FACE, "a").reject(
        second, Rejection.QUOTA, [f"b{i}" for i in range(len(masks))]
    )
    expected = [
        ("no_face", "a") if f else ("quota", f"b{i}") if s else (None, None)
        for i, (f, s) in enumerate(masks)
    ]
    assert after.table.select("rejection", "rejection_detail").rows() == expected
    assert before.rejections() == {}, "the set that went in is as it was"
    assert len(after.accepted) + len(after.rejected) == len(after)


def test_vectors_survive_parquet(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float16)
    images = rows(5).with_columns(vector_column("embedding", list(vectors)))
    images.write(tmp_path / "x.parquet")
    again = ImageSet.read(tmp_path / "x.parquet")
    assert again.root == images.root
    assert np.array_equal(again.embeddings(), vectors.astype(np.float32))
    assert again.table.equals(images.table)
    assert again.fingerprint() == images.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_missing_column_names_the_stage():
    with pytest.raises(MissingColumnError, match="embed"):
        rows(2).embeddings()
    partly = rows(2).with_columns(vector_column("embedding", [np.ones(3), None]))
    with pytest.raises(MissingColumnError):
        partly.embeddings()
    assert partly.filter(pl.col("path") == "0.png").embeddings().shape == (1, 3)


def test_an_image_does_not_say_why_it_was_rejected_nor_a_truth_for_a_number(tmp_path):
    described = {"seed": True, "take": 2, "rejection": "no_face", "rejection_detail": "said so"}
    image(tmp_path / "x.png", character_curator=json.dumps(described))
    row = ImageSet.from_folder(tmp_path).table.row(0, named=True)
    assert (row["seed"], row["take"]) == (None, 2)
    assert (row["rejection"], row["rejection_detail"]) == (None, None)


def test_every_byte_counts_for_a_hash(tmp_path):
    data = bytes(3 * 2**20 + 1)
    (tmp_path / "x").write_bytes(data)
    assert content_hash(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_the_order_of_the_rows_belongs_to_the_identity_of_a_set():
    turned = ImageSet(rows(3).table.reverse(), rows(3).root)
    assert turned.fingerprint() == hashlib.sha256(b"2\n1\n0").hexdigest()


def test_what_is_being_written_is_hidden_and_a_failure_changes_nothing(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")

    def fail():
        with atomic.replacing(path) as temporary:
            temporary.write_text("new")
            assert temporary.parent == tmp_path
            assert temporary.name.startswith(".")
            assert temporary.suffix == ".tmp"
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("vectors", [[b"abcd", b"ab"], [b"", b""], [b"abc", b"abc"]])
def test_vectors_of_several_lengths_are_a_named_error(vectors):
    rows = [{"path": f"{n}.png", "embedding": vector} for n, vector in enumerate(vectors)]
    with pytest.raises(UnequalVectorsError, match="Measure these images anew"):
        ImageSet.from_rows(rows, ".").embeddings()
