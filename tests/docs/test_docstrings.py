"""Docstrings: their examples run, their markup is one, and what they name exists."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

import character_curator
from character_curator import export
from tests.support.comfyui.portraits import draw_folder
from tests.support.images import make_images

ROOT = Path(__file__).parents[2]
FOLDERS = ("core", "nodes", "miniature", "benchmarks")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
WITH_EXAMPLES = [
    ".".join(("character_curator", *Path(name).with_suffix("").parts[1:]))
    for name, text in SOURCES.items()
    if name.startswith("core/") and re.search(r"^ +>>> ", text, re.M)
]
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`\.*([\w.]+)`")
SINGLE = re.compile(r"(?<![:`\w])`[^`\n]+`(?!`)")


def docstrings(text):
    """Yield every docstring, those of attributes included."""
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(value, ast.Constant):
                yield str(value.value)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where examples run: ``photos``, six captioned portraits, and ``char1-dataset``, exported."""
    folder = tmp_path_factory.mktemp("examples")
    draw_folder(folder / "photos")
    export(make_images(folder / "raw"), folder / "char1-dataset", name="char1", report=False)
    return folder


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, place, monkeypatch):
    monkeypatch.chdir(place)
    said = []
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize(
    "name",
    [
        "CuratedDataset", "ImageSet", "Plan", "QualityAssessment", "Quota", "TrainingSettings",
        "noise_seed", "select", "train_lora",
    ],
)  # fmt: skip
def test_the_main_names_have_an_example(name):
    assert ">>> " in getattr(character_curator, name).__doc__


def test_code_is_in_double_backticks():
    found = [
        f"{name}: {single}"
        for name, text in SOURCES.items()
        for docstring in docstrings(text)
        for single in SINGLE.findall(docstring)
    ]
    assert not found


def test_what_roles_name_exists():
    known = {Path(name).stem for name in SOURCES} | {Path(name).parent.name for name in SOURCES}
    for text in SOURCES.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                known.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                known.add(node.id if isinstance(node, ast.Name) else node.attr)
    for name, text in SOURCES.items():
        for role in ROLE.findall(text):
            assert set(role.split(".")) <= known, f"{name}: {role}"
