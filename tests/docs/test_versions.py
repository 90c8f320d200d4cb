"""The README says which versions were tried, and the record that it says it from is a good one."""

import json
import re
from pathlib import Path

import pytest

from tests.support.comfyui import versions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows():
    return json.loads(versions.RECORD.read_text(encoding="utf-8"))


def test_the_readme_has_the_table_of_the_record(rows):
    text = versions.README.read_text(encoding="utf-8")
    assert versions.with_table(text, rows) == text


def test_what_was_tried_passed(rows):
    assert [row for row in rows if row["failed"]] == []
    assert all(row["passed"] > 300 for row in rows)
    assert all(sum(row["skipped_because"].values()) == row["skipped"] for row in rows)


def test_the_oldest_version_that_is_promised_was_tried(rows):
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    promised = re.search(r'^requires-comfyui = ">=([^"]+)"', pyproject, re.MULTILINE)[1]
    assert rows[0]["comfyui"] == promised
    assert len({row["comfyui"] for row in rows}) > 1, "the newest is another"


def test_rows_are_ordered_as_versions_and_a_new_run_replaces_an_old_one(tmp_path, monkeypatch):
    record = tmp_path / "versions.json"
    for version, passed in (("0.33.0", 1), ("0.3.64", 2), ("0.33.0", 3)):
        (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        monkeypatch.setattr(versions, "tried_frontend", lambda: "1.2")
        counts = {"passed": passed, "failed": 0, "skipped": 0, "skipped_because": {}}
        versions.write_row(record, tmp_path, counts)
    found = json.loads(record.read_text(encoding="utf-8"))
    assert [(row["comfyui"], row["passed"]) for row in found] == [("0.3.64", 2), ("0.33.0", 3)]
