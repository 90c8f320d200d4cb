"""Images behind addresses: listed, downloaded once, fetched anew when they change."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys

import pytest

from character_curator import project
from character_curator.dataset import export
from character_curator.imageset import EmptyFolderError, ImageSet
from character_curator.naming import table_name
from character_curator.project_parts import recipe_of
from character_curator.stores import opening
from character_curator.stores.addresses import SecretInAddressError, is_address
from character_curator.stores.cache import Cache, CacheFullError, bytes_of, kept, sweep_unused
from character_curator.stores.listing import list_objects
from character_curator.stores.mirror import StoreUnfinishedError, local_file, mirror
from character_curator.stores.opening import (
    StoreConnectionError,
    StoreDeniedError,
    StoreMissingError,
)
from tests.support.images import drawing, png_bytes
from tests.support.object_store import proxy, use_store


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "local" / "photos"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"{number:03d}.png").write_bytes(png_bytes(drawing(number)))
    (folder / "sub").mkdir()
    (folder / "000.png").rename(folder / "sub" / "deep ü.png")
    (folder / "sub" / "deep ü.txt").write_text("a caption", encoding="utf-8")
    (folder / "clip.mp4").write_bytes(b"x" * 5000)
    return folder


def rows(images):
    return images.table.rows(named=True)


def test_a_bucket_is_read_as_its_folder_would_be(store, photos, tmp_path):
    store.put(photos, "s3://first/photos")
    there = ImageSet.from_folder("s3://first/photos")
    here = ImageSet.from_folder(photos)
    assert rows(there) == rows(here)
    assert there.notes[1:] == here.notes
    assert "6 of 6 objects downloaded" in there.notes[0]
    assert str(tmp_path / "cache") in there.notes[0]
    assert (there.root / "clip.mp4").stat().st_size == 0  # its name is enough


def test_what_is_here_is_not_downloaded_again_and_what_has_changed_is(store, photos):
    store.put(photos, "s3://second/photos")
    assert mirror("s3://second/photos").fetched == 6
    assert mirror("s3://second/photos/").fetched == 0
    other = bytearray((photos / "001.png").read_bytes())
    other[-1] ^= 1  # of the same size
    store.system.pipe_file("second/photos/001.png", bytes(other))
    store.system.rm_file("second/photos/003.png")
    assert mirror("s3://second/photos").fetched == 1
    (photos / "001.png").write_bytes(other)
    (photos / "003.png").unlink()
    assert rows(ImageSet.from_folder("s3://second/photos")) == rows(ImageSet.from_folder(photos))


def test_a_copy_that_was_changed_here_is_fetched_anew(store, photos):
    store.put(photos, "s3://third/photos")
    copy = mirror("s3://third/photos")
    (copy.path / "001.png").write_bytes(b"x")
    assert mirror("s3://third/photos").fetched == 1
    assert (copy.path / "001.png").read_bytes() == (photos / "001.png").read_bytes()


def test_another_machine_opens_a_listed_object_by_itself(store, photos, tmp_path):
    store.put(photos, "s3://fourth/photos")
    listed = pickle.loads(pickle.dumps(list_objects("s3://fourth/photos").files))
    other = Cache(tmp_path / "other", 10**9)
    for one in listed:
        assert local_file(one, other).read_bytes() == (photos / one.name).read_bytes()
    times = {one.name: local_file(one, other).stat().st_ino for one in listed}
    assert times == {one.name: local_file(one, other).stat().st_ino for one in listed}


def test_requests_that_fail_and_connections_that_break_lose_nothing(
    store, photos, tmp_path, monkeypatch
):
    store.put(photos, "s3://fifth/photos")
    monkeypatch.setattr(opening, "PAUSE", 0.01)

    def verdict(method, path, before):
        if "list-type" in path:
            return 503 if before == 0 else None
        return {0: 503, 1: "cut"}.get(before) if method == "GET" else None

    with proxy(store, verdict) as broken:
        use_store(monkeypatch, broken, tmp_path / "cache")
        there = ImageSet.from_folder("s3://fifth/photos")
    assert broken.seen["503"] >= 6
    assert broken.seen["cut"] >= 5
    assert rows(there) == rows(ImageSet.from_folder(photos))


def test_an_object_that_is_never_to_be_had_is_a_row_with_its_reason(
    store, photos, tmp_path, monkeypatch
):
    store.put(photos, "s3://sixth/photos")

    def verdict(method, path, before):
        return 403 if method == "GET" and "002.png" in path else None

    with proxy(store, verdict) as broken:
        use_store(monkeypatch, broken, tmp_path / "cache")
        there = ImageSet.from_folder("s3://sixth/photos")
    lost = there.rejected.table.row(0, named=True)
    assert len(there) == 5
    assert len(there.accepted) == 4
    assert lost["path"] == "002.png"
    assert lost["rejection"] == "unreadable"
    assert "not open to you" in lost["rejection_detail"]
    use_store(monkeypatch, store, tmp_path / "cache")
    assert len(ImageSet.from_folder("s3://sixth/photos").accepted) == 5


def test_what_is_wrong_with_a_store_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "PAUSE", 0.01)
    with pytest.raises(StoreMissingError, match="nothing at s3://nowhere/photos"):
        mirror("s3://nowhere/photos")
    with proxy(store, lambda *_: 403) as closed:
        use_store(monkeypatch, closed, tmp_path / "cache")
        with pytest.raises(StoreDeniedError, match="AWS_ACCESS_KEY_ID"):
            mirror("s3://first/photos")
    monkeypatch.setattr(opening, "ATTEMPTS", 1)
    with pytest.raises(StoreConnectionError, match="same command again"):
        mirror("http://127.0.0.1:9/photos.zip")


def test_a_password_in_an_address_is_refused_and_not_repeated():
    for address in ("s3://key:secret@bucket/photos", "https://token@host/a.zip"):
        with pytest.raises(SecretInAddressError) as found:
            mirror(address)
        assert "secret" not in str(found.value)
        assert "token@" not in str(found.value)
    assert not is_address("C:\\photos")
    assert not is_address("photos")


def test_a_signature_reaches_no_table_note_or_dataset(store, photos, tmp_path):
    shutil.make_archive(str(tmp_path / "album"), "zip", photos)
    store.system.call_s3("create_bucket", Bucket="signed")
    store.system.put_file(str(tmp_path / "album.zip"), "signed/album.zip")
    address = store.system.sign("signed/album.zip")
    assert "Signature=" in address
    images = ImageSet.from_folder(address, unpacked=tmp_path / "unpacked")
    assert len(images.accepted) == 5
    parsed = project.from_mapping({"source": address, "project": {"name": "x"}}, "here")
    export(images, tmp_path / "out" / "set", name="set", recipe=recipe_of(parsed))
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    written += (tmp_path / "cache").rglob("store.json")
    assert len(written) > 10
    assert not any(b"Signature" in path.read_bytes() for path in written)
    assert "album.zip?…" in "".join(images.notes)
    assert "Signature" not in "".join(images.notes)


def test_an_address_is_no_place_for_measurements():
    with pytest.raises(project.ProjectFileError, match="measurements need a disk"):
        project.from_mapping({"source": "photos", "project": {"output": "s3://bucket/out"}}, "here")


def test_names_that_lead_out_are_left_out_and_said(store, photos):
    system = store.system
    store.put(photos, "s3://seventh/photos")
    good = (photos / "001.png").read_bytes()
    client = system.call_s3
    for key in ("photos/../escaped.png", "photos/a//b.png", "photos/" + "n" * 300 + ".png"):
        client("put_object", Bucket="seventh", Key=key, Body=good)
    copy = mirror("s3://seventh/photos")
    assert [note for note in copy.notes if "3 objects have names" in note]
    assert {one.name for one in copy.files} == {
        path.relative_to(photos).as_posix() for path in photos.rglob("*") if path.is_file()
    }


def test_the_folder_of_copies_is_bounded_and_swept(store, photos, tmp_path):
    store.put(photos, "s3://eighth/photos")
    store.put(photos, "s3://ninth/photos")
    size = mirror("s3://eighth/photos").size
    cache = Cache(tmp_path / "cache", size + 500)
    with pytest.raises(CacheFullError, match="--cache-limit"):
        mirror("s3://ninth/photos", cache=cache)  # the first is in use by this process
    other = "from character_curator.stores.mirror import mirror; mirror('s3://ninth/photos')"
    small = Cache(tmp_path / "small", size + 500)
    subprocess.run(
        [sys.executable, "-c", other], check=True, env={**os.environ, "CURATOR_CACHE":
        str(small.folder)},
    )  # fmt: skip
    assert [one.address for one in kept(small)] == ["s3://ninth/photos"]
    copy = mirror("s3://eighth/photos", cache=small)
    assert any("s3://ninth/photos were swept" in note for note in copy.notes)
    assert [one.address for one in kept(small)] == ["s3://eighth/photos"]
    assert sweep_unused(small, 0) == ([], kept(small))
    assert bytes_of("50GB") == 50 * 10**9
    assert bytes_of("1.5 GiB") == 3 << 29


def test_a_dataset_of_which_something_is_missing_is_not_read(store, photos, tmp_path, monkeypatch):
    (photos / "SHA256SUMS").write_text("")
    store.put(photos, "s3://partly/set")
    with proxy(
        store, lambda method, path, _: 403 if method == "GET" and "002.png" in path else None
    ) as broken:
        use_store(monkeypatch, broken, tmp_path / "cache")
        with pytest.raises(StoreDeniedError):
            mirror("s3://partly/set", whole=True)
        assert list(mirror("s3://partly/set").faults) == ["002.png"]


def test_half_a_dataset_is_not_read(store, photos):
    store.put(photos, "s3://tenth/photos")
    store.system.pipe_file("tenth/photos/.character-curator-uploading", b"")
    with pytest.raises(StoreUnfinishedError):
        mirror("s3://tenth/photos", whole=True)


@pytest.mark.slow
def test_a_killed_download_is_gone_on_with(store, photos, tmp_path):
    for number in range(40):
        (photos / f"more-{number}.png").write_bytes(png_bytes(drawing(100 + number)))
    store.put(photos, "s3://stopped/photos")
    child = []

    def verdict(method, path, before):
        if method == "GET" and "more-25" in path and child:
            os.kill(child[0], signal.SIGKILL)
        return None

    with proxy(store, verdict) as watched:
        call = "from character_curator.stores.mirror import mirror; mirror('s3://stopped/photos')"
        environment = {**os.environ, "AWS_ENDPOINT_URL": watched.url}
        process = subprocess.Popen([sys.executable, "-c", call], env=environment)
        child.append(process.pid)
        assert process.wait(60) == -signal.SIGKILL
    copy = mirror("s3://stopped/photos")
    assert 0 < copy.fetched < 46
    assert rows(ImageSet.from_folder("s3://stopped/photos")) == rows(ImageSet.from_folder(photos))
    assert not list((tmp_path / "cache").rglob(".*.tmp"))


def test_what_is_not_as_listed_is_no_copy(tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setattr(opening, "PAUSE", 0.01)
    system, cache = fsspec.filesystem("memory"), Cache(tmp_path / "cache", 10**9)
    system.pipe_file("/moving/a.png", b"as it was listed")
    (listed,) = list_objects("memory://moving").files
    system.pipe_file("/moving/a.png", b"shorter")
    with pytest.raises(StoreConnectionError, match="7 of 16 bytes have arrived"):
        local_file(listed, cache)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_other_schemes_do_the_same(photos, tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setenv("CURATOR_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    for path in photos.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/album/{path.relative_to(photos).as_posix()}", path.read_bytes())
    there = ImageSet.from_folder(["memory://album", photos])
    assert len(there.accepted) == 10
    assert set(there.table["source"]) >= {"album/001.png", table_name("photos/sub/deep ü.png")}
    system.pipe_file("/empty/a.md", b"text")
    with pytest.raises(EmptyFolderError, match="memory://empty"):
        ImageSet.from_folder("memory://empty")
