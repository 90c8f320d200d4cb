"""Hashes of model files are remembered, also when several processes hash at once."""

import hashlib
import os
import sqlite3
import subprocess
import sys

import pytest

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
        return dict(known.execute("SELECT file, hash FROM hashes"))
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
