"""Names that no file can have, and folders that may not be read: named errors of every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import command

COMMANDS = {
    "curate": ["curate", "{}", "--output", "{}"],
    "train": ["train", "{}", "--base", "miniature", "--output", "l.safetensors"],
    "lint": ["captions", "lint", "{}"],
    "verify": ["verify", "{}"],
    "export": ["export", "{}", "--output", "{}"],
    "download": ["download", "{}", "q"],
    "versions": ["versions", "{}"],
    "run": ["run", "{}"],
    "evaluate": ["evaluate", "{}", "--dataset", "{}", "--base", "miniature"],
    "diagnose": ["diagnose", "{}", "--dataset", "{}"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_name_that_is_too_long_is_a_named_error(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    _, told = command(*(word.format("n" * 300) for word in words), check=2)
    assert "Error" in told
    assert "drive checked" not in told.replace("\n", " ")


def test_a_folder_that_may_not_be_read_is_a_named_error(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)
    _, told = command("train", tmp_path, "--base", "miniature", "--output", "l", check=2)
    assert "Error" in told
