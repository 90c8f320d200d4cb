"""Files that may be pipes and devices: refused at once, wherever somebody's folder holds them."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import character_curator
from character_curator.captions import edit, read_history, read_table, write
from character_curator.captions.edits import Add
from character_curator.captions.history import HistoryError
from character_curator.dataset.facts import FactsError, read_facts
from character_curator.errors import WriteError
from character_curator.imageset import ImageSet
from character_curator.plain_files import plain_bytes, plain_text
from tests.support.images import drawing

ROOT = Path(character_curator.__file__).parents[1]
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
NAMES = ("version.json", "SHA256SUMS", "features.sqlite", "metadata.json", "metadata.jsonl",
         "dataset.toml", "recipe.toml", "a.txt", "a.caption", "facts.json")  # fmt: skip


def test_plain_files_are_read_as_python_reads_them(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("é\r\nü\rx\n".encode())
    assert plain_bytes(path) == path.read_bytes()
    assert plain_text(path) == path.read_text(encoding="utf-8")
    (tmp_path / "link").symlink_to(path)
    assert plain_bytes(tmp_path / "link") == path.read_bytes()
    with pytest.raises(IsADirectoryError):
        plain_bytes(tmp_path)
    with pytest.raises(FileNotFoundError):
        plain_text(tmp_path / "none")


@needs_pipes
def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="no plain file") as caught:
            plain_bytes(path)
        assert "Take it away" in str(WriteError(path, caught.value))


@needs_pipes
def test_no_folder_makes_a_reader_wait_for_ever(tmp_path):
    drawing(8, 8).save(tmp_path / "a.png")
    (tmp_path / "below").mkdir()
    drawing(8, 8).save(tmp_path / "below" / "b.png")
    for name in NAMES:
        for folder in (tmp_path, tmp_path / "below"):
            os.mkfifo(folder / name)
    assert len(ImageSet.from_folder(tmp_path)) == 2
    with pytest.raises(FactsError, match="no plain file"):
        read_facts(tmp_path)
    os.unlink(tmp_path / "facts.json")
    made = edit(read_table(tmp_path), [Add("park")])
    with pytest.raises(WriteError, match="no plain file"):
        write(made)
    os.mkfifo(tmp_path / ".caption-edits.jsonl")
    with pytest.raises(HistoryError, match="no plain file"):
        read_history(tmp_path)


def test_files_are_read_with_care_everywhere():
    """Only what lies in the package itself, and the system's own, is read in another way."""
    own = {
        "core/generation/conditions.py", "core/verification/page.py", "core/report/page.py",
        "core/lazy.py", "core/engines/cores.py", "core/dataset/difference_page.py",
        "core/cli/curation.py",
    }  # fmt: skip
    found = set()
    for path in sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "attr", "") in ("read_text", "read_bytes"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == own
