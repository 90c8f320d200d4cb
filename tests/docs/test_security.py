"""The page of security: every line names tests, and each of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line.split("|")[1:3]
    for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| What |")
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@pytest.mark.parametrize(("what", "tests"), ROWS, ids=[row[0].strip()[:40] for row in ROWS])
def test_every_line_has_a_test_that_is_there(what, tests):
    found = NAMED.findall(tests)
    assert found, f"nothing shows that {what.strip()}"
    assert NAMED.sub("", tests).strip(" ,") == ""
    for path, name in found:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_lines():
    assert len(ROWS) >= 15
