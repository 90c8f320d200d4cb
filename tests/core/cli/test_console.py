"""Whatever the environment says of the terminal, every word is shown."""

from __future__ import annotations

import pytest
from rich.table import Table

from character_curator.cli.console import Terminal


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"COLUMNS": "0"},
        {"LINES": "0"},
        {"COLUMNS": "1", "LINES": "1"},
        {"COLUMNS": "²"},
        {"COLUMNS": "abc"},
        {"COLUMNS": "24"},
        {"TERM": "dumb"},
        {"NO_COLOR": "1"},
        {"TERM": None},
    ],
)
def test_no_word_is_cut_whatever_the_environment_says(environment, monkeypatch, capsys):
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    words = [f"a-word-that-is-long-{number}" for number in range(8)]
    table = Table(title="Words")
    for word in words:
        table.add_column(f"head-{word}")
    table.add_row(*words)
    table.add_row(*(f"{word} 2026-11-27 14:22" for word in words))
    terminal = Terminal()
    terminal.print("What is said", "of it.")
    terminal.print(table)
    said = capsys.readouterr().err
    assert "said" in said
    assert "…" not in said
    assert all(f" {word} " in said and f"head-{word}" in said for word in words)
    assert terminal.width >= 20
    assert terminal.height >= 2
