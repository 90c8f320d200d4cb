"""Files are whole or absent, reach the disk in order, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import polars as pl
import pytest
from PIL import Image

from character_curator import atomic
from character_curator.errors import CuratorError, WriteError
from character_curator.imageset import ImageSet
from tests.support.full_disk import disk_that_fills

WAITING = """
import sys, time
from pathlib import Path
from character_curator import atomic
with atomic.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def writer(path):
    """Start a process that writes a file and never comes to its end."""
    started = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "writing\n"
    return started


def test_what_a_kill_leaves_is_swept_at_the_next_start_and_nothing_else(tmp_path):
    killed, at_work = writer(tmp_path / "a"), writer(tmp_path / "b")
    killed.kill()
    killed.wait()
    names = (".a.tmp", ".0123456789abcdeg.tmp", "0123456789abcdef.tmp")
    others = [tmp_path / name for name in names]
    for path in others:
        path.write_bytes(b"somebody's")
    try:
        assert len(list(tmp_path.glob("*.tmp"))) == 5
        atomic.write_text(tmp_path / "c", "whole")
        left = set(tmp_path.glob("*.tmp")) - set(others)
        assert len(left) == 1, "what is still written stays"
        assert left.pop().read_bytes() == b"half"
        assert all(path.exists() for path in others)
    finally:
        at_work.kill()
        at_work.wait()


def test_old_files_go_where_there_are_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "fcntl", None)
    old, new = tmp_path / f".{'a' * 16}.tmp", tmp_path / f".{'b' * 16}.tmp"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (0, time.time() - 2 * atomic.LEFT_BEHIND))
    assert atomic.sweep(tmp_path) == 1
    assert new.exists()
    atomic.write_text(tmp_path / "c", "whole")
    assert (tmp_path / "c").read_text() == "whole"


def test_content_is_synced_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    done = []
    monkeypatch.delenv("CURATOR_FSYNC", raising=False)
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: done.append(os.fstat(handle).st_ino))
    replace = type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda path, to: (done.append("renamed"), replace(path, to))[1]
    )
    atomic.write_bytes(tmp_path / "a", b"whole")
    file, folder = (tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino
    assert done == [file, "renamed", folder]


def test_a_full_disk_is_a_named_error_in_parquet_too(tmp_path):
    images = ImageSet.from_rows([{"path": f"{i}.png" * 50} for i in range(500)], tmp_path)
    images.write(tmp_path / "images.parquet")
    before = (tmp_path / "images.parquet").read_bytes()
    with disk_that_fills() as fill:
        fill()
        with pytest.raises(WriteError, match="Free some space") as told:
            images.write(tmp_path / "images.parquet")
        with pytest.raises(WriteError, match="Free some space"):
            atomic.write_bytes(tmp_path / "b", bytes(10_000))
    assert isinstance(told.value, CuratorError)
    assert told.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert (tmp_path / "images.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["images.parquet"]
    assert pl.read_parquet(tmp_path / "images.parquet").height == 500


def test_a_place_that_cannot_be_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="Check the name"):
        atomic.write_text(tmp_path / "file" / "inside", "")


UNPACKING = """
import sys, time
from pathlib import Path
from character_curator import atomic
with atomic.filling(Path(sys.argv[1])) as making:
    (making / "half").touch()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "WAITING", UNPACKING)
    killed, at_work = writer(tmp_path / "a"), writer(tmp_path / "b")
    killed.kill()
    killed.wait()
    (tmp_path / ".unpacking").mkdir()
    try:
        assert len(list(tmp_path.glob(".unpacking-*/half"))) == 2
        with pytest.raises(RuntimeError), atomic.filling(tmp_path / "c"):
            raise RuntimeError
        with atomic.filling(tmp_path / "c") as making:
            (making / "whole").touch()
            assert not (tmp_path / "c").exists()
        assert [path.name for path in (tmp_path / "c").iterdir()] == ["whole"]
        assert len(list(tmp_path.glob(".unpacking-*"))) == 1, "what is still written stays"
        assert (tmp_path / ".unpacking").exists()
        assert not (tmp_path / "a").exists()
    finally:
        at_work.kill()
        at_work.wait()


def test_what_a_folder_holds_is_synced_before_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.delenv("CURATOR_FSYNC", raising=False)
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: done.append(os.fstat(handle).st_ino))
    rename = type(tmp_path).rename
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda path, to: (done.append("renamed"), rename(path, to))[1]
    )
    with atomic.filling(tmp_path / "new" / "a") as making:
        (making / "image").write_bytes(b"whole")
    folder = tmp_path / "new"
    file = (folder / "a" / "image").stat().st_ino
    inside = [file, (folder / "a").stat().st_ino]
    assert done == [tmp_path.stat().st_ino, *inside, "renamed", folder.stat().st_ino]


def test_no_half_of_a_jpeg_is_taken_for_the_whole(tmp_path):
    image = Image.effect_noise((64, 64), 90)
    atomic.write_jpeg(tmp_path / "a.jpg", image, 95)
    image.save(tmp_path / "b.jpg", "JPEG", quality=95)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    assert (tmp_path / "a.jpg").stat().st_size > 1024
    with disk_that_fills() as fill:
        fill()
        with pytest.raises(WriteError):
            atomic.write_jpeg(tmp_path / "c.jpg", image, 95)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.jpg"]
