"""Datasets in a store: whole or not at all, the same bytes as in a folder, gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from character_curator.cli import main
from character_curator.dataset import CuratedDataset, export, verify
from character_curator.imageset import ImageSet
from character_curator.stores import opening
from character_curator.stores.mirror import (
    UPLOADING,
    CaptionsWaitError,
    StoreUnfinishedError,
    mirror,
)
from character_curator.stores.opening import StoreConnectionError
from character_curator.stores.uploads import UploadError, upload_dataset
from tests.support.commands import command, curate, draw_people
from tests.support.images import make_images
from tests.support.object_store import proxy, use_store
from tests.support.train_command import command as train
from tests.support.train_command import short

OF_THE_PLACE = {"recipe.toml", "report.html", "version.json", "SHA256SUMS"}
"""What names the address of the images (two), says when it was made, or sums those up."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two versions of a small dataset, to be read only."""
    folder = tmp_path_factory.mktemp("made")
    for version, selected in (("one", 6), ("two", 7)):
        images = make_images(folder / f"images-{version}", 12, selected=selected)
        export(images, folder / version / "set", name="set", report=False)
    return folder


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_images_of_a_store_make_the_dataset_of_their_folder(store, made, tmp_path):
    store.put(made / "images-one", "s3://equal/photos")
    folders = []
    for place in ("s3://equal/photos", made / "images-one"):
        images = ImageSet.from_folder(place)
        folder = tmp_path / f"{len(folders)}" / "set"
        export(images, folder, name="set", recipe={"source": "photos"})
        folders.append(files_in(folder))
    assert {n for n in folders[0] if folders[0][n] != folders[1].get(n)} <= {"version.json"}


@pytest.mark.slow
def test_every_step_from_and_in_a_store_is_that_of_folders(store, tiny_sd15, tmp_path, capsys):
    photos = draw_people(tmp_path / "photos", 4)
    store.put(photos, "s3://whole/photos")
    work = tmp_path / "work"
    curate(photos, tmp_path / "local" / "set", work=work)
    told, said, _ = curate("s3://whole/photos", "s3://whole/sets/set", work=work)
    here, there = files_in(tmp_path / "local" / "set"), store.files("s3://whole/sets/set")
    assert here.keys() == there.keys()
    assert {name for name in here if here[name] != there[name]} <= OF_THE_PLACE
    moved = there["recipe.toml"].replace(b"s3://whole/photos", str(photos).encode())
    assert moved == here["recipe.toml"]
    assert told["uploaded"][0]["address"] == "s3://whole/sets/set"
    assert "every one was compared" in said
    copy = mirror("s3://whole/sets/set", whole=True)
    assert verify(copy.path).ok
    assert len(CuratedDataset(copy.path)) == 3
    again, _, _ = curate("s3://whole/photos", "s3://whole/sets/set", work=work)
    assert again["version"] == 1
    assert again["uploaded"][0]["sent"] == 0
    captioned = ("--caption", "somebody")
    assert train(capsys, tmp_path / "local" / "set", *short(tiny_sd15, tmp_path / "a.safetensors"),
                 *captioned)[0] == 0  # fmt: skip
    code, result = train(
        capsys, "s3://whole/sets/set", *short(tiny_sd15, "s3://whole/loras/a.safetensors"),
        *captioned,
    )  # fmt: skip
    assert code == 0
    assert result["uploaded"][0]["files"] > 1
    loras = store.files("s3://whole/loras")
    assert weights(loras["a.safetensors"]) == weights((tmp_path / "a.safetensors").read_bytes())
    assert not [name for name in loras if ".work" in name]
    code = main(["verify", "s3://whole/sets/set", "--regenerate", "0", "--json", "--quiet"])
    lines = json.loads(capsys.readouterr().out)
    assert code in (0, 1)
    assert lines


def weights(data):
    import safetensors.torch

    return {name: value.numpy().tobytes() for name, value in safetensors.torch.load(data).items()}


def test_a_later_version_keeps_the_one_before(store, made, tmp_path, monkeypatch):
    store.put(made / "images-one", "s3://later/mark")
    first = upload_dataset(made / "one" / "set", "s3://later/set")
    assert first.sent == first.files
    assert upload_dataset(made / "one" / "set", "s3://later/set").sent == 0
    second = upload_dataset(made / "two" / "set", "s3://later/set")
    assert second.previous == "s3://later/set.versions/v0001"
    assert second.sent < second.files  # images that both have stay
    assert store.files("s3://later/set") == files_in(made / "two" / "set")
    assert store.files("s3://later/set.versions/v0001") == files_in(made / "one" / "set")
    # A third one, curated on another machine, goes on from there.
    monkeypatch.setenv("CURATOR_CACHE", str(tmp_path / "elsewhere"))
    from character_curator.stores.staging import stage

    staged = stage("s3://later/set", "dataset")
    assert files_in(staged.path) == files_in(made / "two" / "set")


def test_what_is_no_dataset_is_not_replaced(store, made):
    store.put(made / "images-one", "s3://yours/photos")
    before = store.files("s3://yours/photos")
    with pytest.raises(UploadError, match="no dataset of this program"):
        upload_dataset(made / "one" / "set", "s3://yours/photos")
    with pytest.raises(UploadError, match="Nothing can be written"):
        upload_dataset(made / "one" / "set", "https://127.0.0.1:9/set")
    assert store.files("s3://yours/photos") == before


def _is_put(method, path):
    return method == "PUT" and path.split("?")[0].endswith(".png")


def test_a_bad_connection_loses_nothing(store, made, tmp_path, monkeypatch):
    store.put(made / "images-one", "s3://bad/mark")
    monkeypatch.setattr(opening, "PAUSE", 0.01)

    def verdict(method, path, before):
        return {0: 503, 1: "flip", 2: "drop"}.get(before) if _is_put(method, path) else None

    with proxy(store, verdict) as broken:
        use_store(monkeypatch, broken, tmp_path / "cache")
        done = upload_dataset(made / "one" / "set", "s3://bad/set")
    assert store.files("s3://bad/set") == files_in(made / "one" / "set")
    assert done.sent == done.files
    assert broken.seen["flip"] == broken.seen["drop"] == 6
    with proxy(store, lambda method, path, _: "flip" if _is_put(method, path) else None) as broken:
        use_store(monkeypatch, broken, tmp_path / "cache")
        with pytest.raises(StoreConnectionError, match=r"checksum|other bytes"):
            upload_dataset(made / "one" / "set", "s3://bad/other")


@pytest.mark.parametrize("replaced", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_killed_upload_is_no_dataset_and_is_gone_on_with(
    replaced, store, made, tmp_path, monkeypatch
):
    address = f"s3://killed/set-{replaced}"
    store.put(made / "images-one", "s3://killed/mark")
    if replaced:
        upload_dataset(made / "one" / "set", address)
    local = tmp_path / "set"
    shutil.copytree(made / "two" / "set", local)
    child = []

    def verdict(method, path, before):
        if method == "PUT" and "/set-" + str(replaced) + "/metadata.jsonl" in path and child:
            os.kill(child[0], signal.SIGKILL)
        return None

    with proxy(store, verdict) as watched:
        environment = {**os.environ, "AWS_ENDPOINT_URL": watched.url}
        arguments = [sys.executable, "-m", "character_curator", "upload", str(local), address]
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
        child.append(process.pid)
        assert process.wait(60) == -signal.SIGKILL
    assert UPLOADING in store.files(address)
    assert "SHA256SUMS" not in store.files(address)
    with pytest.raises(StoreUnfinishedError):
        mirror(address, whole=True)
    done = upload_dataset(local, address)
    assert store.files(address) == files_in(local)
    assert 0 < done.sent < done.files
    if replaced:
        assert store.files(f"{address}.versions/v0001") == files_in(made / "one" / "set")


def test_copies_are_listed_downloaded_and_swept_by_commands(store, made, tmp_path):
    store.put(made / "one", "s3://commands")
    store.put(made / "images-one", "s3://commands/more")
    command("download", "s3://commands/set", tmp_path / "copy", "--cache-limit", "1GB")
    assert files_in(tmp_path / "copy") == files_in(made / "one" / "set")
    out, _ = command("cache", "--json")
    assert "s3://commands/set" in out
    _, said = command("cache", "--sweep")
    assert "is in use and stays" in said
    _, said = command(
        "download", "s3://commands/more", tmp_path / "b", "--cache-limit", "1kB", check=2
    )
    assert "CacheFullError" in said


def test_captions_are_written_where_the_images_are(store, made, tmp_path, monkeypatch):
    store.put(made / "images-one", "s3://words/photos")
    edit = ("captions", "edit", "s3://words/photos", "--add", "in a garden")
    command(*edit)
    there = {n: d for n, d in store.files("s3://words/photos").items() if n.endswith(".txt")}
    assert len(there) == 12
    assert all(b"in a garden" in data for data in there.values())
    command("captions", "undo", "s3://words/photos")
    assert store.files("s3://words/photos").keys() == files_in(made / "images-one").keys()
    command("captions", "undo", "s3://words/photos", check=2)  # nothing is left to take back
    assert mirror("s3://words/photos", whole=True).files
    # An upload that fails is gone on with, and nobody reads the copy before.
    monkeypatch.setattr(opening, "ATTEMPTS", 1)
    with proxy(store, lambda method, *_: 403 if method == "PUT" else None) as closed:
        use_store(monkeypatch, closed, tmp_path / "cache")
        command(*edit[:-1], "at night", check=2)
    use_store(monkeypatch, store, tmp_path / "cache")
    with pytest.raises(CaptionsWaitError):
        mirror("s3://words/photos")
    command("captions", "history", "s3://words/photos")
    there = {n: d for n, d in store.files("s3://words/photos").items() if n.endswith(".txt")}
    assert all(b"at night" in data for data in there.values())
    assert len(mirror("s3://words/photos", whole=True).files) == 24


def test_shards_go_to_a_store_and_come_from_there(store, made, tmp_path):
    store.put(made / "one", "s3://shards")
    options = ("--shards", 2, "--json")
    out, _ = command("export", "s3://shards/set", "--output", "s3://shards/tars", *options)
    assert json.loads(out)["uploaded"][0]["files"] == 3
    command("export", made / "one" / "set", "--output", tmp_path / "tars", *options)
    assert store.files("s3://shards/tars") == files_in(tmp_path / "tars")
    by_braces = ImageSet.from_folder("s3://shards/tars/set-{000000..000001}.tar")
    by_folder = ImageSet.from_folder("s3://shards/tars")
    assert by_braces.table["hash"].to_list() == by_folder.table["hash"].to_list()
    assert len(by_folder.accepted) == 6
    out, _ = command("captions", "frequencies", "s3://shards/tars", "--json")
    assert json.loads(out)["images"] == 6
    again, _ = command("export", "s3://shards/set", "--output", "s3://shards/tars", *options)
    assert json.loads(again)["uploaded"][0]["sent"] == 0
    _, said = command("export", "s3://shards/set", "--output", "s3://shards/tars", check=2)
    assert "UploadError" in said
