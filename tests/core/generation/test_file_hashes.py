"""Hashes of model files are remembered, also when several processes hash at once."""

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from character_curator.analysis.fingerprints import file_fingerprint
from character_curator.generation import models

PROCESSES, FILES = 4, 24
HASH_ALL = """
import sys
from pathlib import Path
from character_curator.generation.models import file_hash
sys.stdin.readline()
for path in sys.argv[1:]:
    file_hash(Path(path))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/character-curator/file-hashes.sqlite"


def rows(cache):
    known = sqlite3.connect(cache)
    try:
        return dict(known.execute("SELECT file, hash FROM states"))
    finally:
        known.close()


def test_a_file_is_read_once_until_it_changes(cache, tmp_path, monkeypatch):
    file = tmp_path / "unet.safetensors"
    file.write_bytes(b"one")
    first = models.file_hash(file)
    assert first == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as patch:
        patch.delattr(models, "content_hash")
        assert models.file_hash(file) == first
    file.write_bytes(b"other")
    assert models.file_hash(file) == hashlib.sha256(b"other").hexdigest()


def test_a_file_that_was_replaced_is_read_again(cache, tmp_path):
    file = tmp_path / "unet.safetensors"
    file.write_bytes(b"one")
    times = file.stat()
    models.file_hash(file)
    file_fingerprint(file)
    other = tmp_path / "other"
    other.write_bytes(b"two")
    other.replace(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    two = hashlib.sha256(b"two").hexdigest()
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (3, times.st_mtime_ns)
    assert (models.file_hash(file), file_fingerprint(file)) == (two, two)
    time.sleep(0.02)  # the clock of the file system
    with file.open("r+b") as opened:  # in place
        opened.write(b"six")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    six = hashlib.sha256(b"six").hexdigest()
    assert (models.file_hash(file), file_fingerprint(file)) == (six, six)


def test_a_damaged_memory_is_not_believed(cache, tmp_path):
    file = tmp_path / "unet.safetensors"
    file.write_bytes(b"one")
    first = models.file_hash(file)
    with closing(sqlite3.connect(cache)) as known, known:
        known.execute("UPDATE states SET hash = ?", ("0" + first[1:],))
    assert models.file_hash(file) == first


def test_several_processes_lose_none_of_each_others(cache, tmp_path):
    files = [tmp_path / f"{number}.bin" for number in range(PROCESSES * FILES)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HASH_ALL, *map(str, files[start::PROCESSES])],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ), text=True,
        )
        for start in range(PROCESSES)
    ]  # fmt: skip
    for process in running:  # all are started before any begins
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    expected = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert {key.split("|")[0]: found for key, found in rows(cache).items()} == expected


def test_a_broken_or_unwritable_memory_costs_only_time(cache, tmp_path):
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"vae")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"this is no database, only some text")
    assert models.file_hash(file) == hashlib.sha256(b"vae").hexdigest()
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.write_text("a file where the folder should be")
    assert models.file_hash(file) == hashlib.sha256(b"vae").hexdigest()
