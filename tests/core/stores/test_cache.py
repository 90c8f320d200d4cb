"""The folder of copies without any store: its records, sizes, and dates of objects."""

from __future__ import annotations

import os

import pytest

from character_curator.stores.cache import (
    RECORD,
    Cache,
    SizeError,
    bytes_of,
    home_of,
    kept,
    sweep_unused,
    use,
)
from character_curator.stores.listing import RemoteFile
from character_curator.stores.uploads import UploadError, upload_dataset
from tests.support.commands import command


@pytest.mark.parametrize("text", ["", "[]", "{}", "5", '{"address": 5}', '{"address": "\\ud800"}'])
def test_a_damaged_record_is_counted_and_swept(tmp_path, monkeypatch, text):
    cache = Cache(tmp_path, 10**9)
    home = home_of("s3://bucket/photos", cache)
    home.mkdir()
    (home / RECORD).write_text(text)
    (home / "a.png").write_bytes(b"x" * 1000)
    (tmp_path / "0123456789abcdef").mkdir()  # without a record it is nobody's business
    assert [(one.folder, one.address) for one in kept(cache)] == [
        (home, f"an unknown address ({home.name})")
    ]
    monkeypatch.setenv("CURATOR_CACHE", str(tmp_path))
    assert "unknown address" in "".join(command("cache"))
    use("s3://bucket/photos", Cache(tmp_path, 10**9))
    assert [one.address for one in kept(cache)] == ["s3://bucket/photos"]
    other = home_of("s3://bucket/other", cache)
    other.mkdir()
    (other / RECORD).write_text(text)
    assert [one.folder for one in sweep_unused(cache, 0)[0]] == [other]
    assert (tmp_path / "0123456789abcdef").is_dir()


@pytest.mark.parametrize("text", ["9" * 400 + "GB", "99999999999TB", "0.5", "0"])
def test_a_size_beyond_measure_is_none(tmp_path, text):
    with pytest.raises(SizeError, match="is no size"):
        bytes_of(text)
    command("cache", "--cache-limit", text, check=2)


def test_a_name_that_is_no_text_has_a_folder(tmp_path):
    assert home_of("s3://caf\udce9", Cache(tmp_path, 1)).parent == tmp_path


@pytest.mark.parametrize("date", [1e300, float("inf"), float("nan"), 253402300799.0, -5.0, 1.7e9])
def test_a_copy_is_current_whatever_date_a_store_tells(tmp_path, date):
    one = RemoteFile("s3://bucket", "bucket/a", "k/x/a", 3, "mark", date)
    copy = tmp_path / "a"
    copy.write_bytes(b"abc")
    os.utime(copy, ns=(one.stamp, one.stamp))
    assert one.is_current(copy)


def test_a_link_out_of_a_dataset_is_not_uploaded(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("")
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UploadError, match=r"a\.txt is a link out of the folder"):
        upload_dataset(folder, "memory://links/set")
    assert not fsspec.filesystem("memory").exists("links/set")
