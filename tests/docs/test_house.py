"""What is written of the repository is so: paths, the map of its folders, what is published."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", ".github/*.md", "core/miniature/*.md", "miniature/*.md")
    for path in sorted(ROOT.glob(pattern))
}
FOLDERS = ("core", "nodes", "tests", "miniature", "benchmarks")
CODE = re.compile(r"^```(?:sh)?\n(.*?)^```|`([^`\n]+)`", re.S | re.M)
PLACE = re.compile(
    rf"(?<![\w./-])((?:{'|'.join(FOLDERS)}|docs|workflows|subgraphs|web|locales|\.ci|\.github)/[\w./*-]*"
    r"|(?<=python )quickstart\.py|pyproject\.toml|requirements\.txt|\.comfyignore)"
)


def paths(page):
    """Return what a page's code, inline or in blocks, names in the repository."""
    named = PLACE.findall("\n".join("".join(pair) for pair in CODE.findall(PAGES[page])))
    return [name.rstrip(".") for name in named]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page):
    missing = [name for name in paths(page) if not list(ROOT.glob(name))]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", PAGES[page])
    assert not [target for target in targets if not (folder / target).exists()]


@pytest.mark.parametrize(
    "line",
    re.findall(r"-m (tests\.[\w.]+)|\.venv/bin/pytest.* (tests/\S+)`", PAGES["CONTRIBUTING.md"]),
)
def test_what_contributors_are_told_to_run_is_there(line):
    module, place = line
    if place:
        assert (ROOT / place).exists()
    else:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_the_map_names_every_folder():
    section = PAGES["CONTRIBUTING.md"].split("## Where things are")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(lines) <= 10
    named = {name.rstrip("/") for name in re.findall(r"`([\w./]+)`", section)}
    parts = [path.relative_to(ROOT) for top in FOLDERS for path in (ROOT / top).rglob("*.py")]
    deep = {"core/training": 3, "tests/support": 3}
    folders = set()
    for path in parts:
        depth = next((n for start, n in deep.items() if path.as_posix().startswith(start)), 2)
        folders.add("/".join(path.parent.parts[:depth]))
    assert folders - {""} <= named


def test_no_test_imports_another_and_none_moves_the_path():
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                module = node.module or ""
                assert not node.level, f"{path}:{node.lineno}"
                assert f"{module}.".startswith("tests.support.") or module[:6] != "tests.", path
        if path.name == "conftest.py":
            assert "sys.path" not in text


def test_the_archive_is_the_pack_and_nothing_else():
    """What ComfyUI's registry packs: what git tracks without what .comfyignore names."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git")

    def tracked(*options):
        listed = subprocess.run(
            ["git", "ls-files", "-z", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return set(filter(None, listed.stdout.split("\0")))

    packed = tracked() - tracked("--cached", "--ignored", "--exclude-from=.comfyignore")
    assert {name.split("/")[0] for name in packed} == {
        "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "__init__.py",
        "core", "docs", "locales", "nodes", "pyproject.toml", "requirements.txt", "subgraphs",
        "web", "workflows",
    }  # fmt: skip
    docs = {name for name in packed if name.startswith("docs/") and not name.endswith(".md")}
    assert docs == {"docs/versions.json"}, "no images"
    whole = ("core/", "nodes/", "locales/", "subgraphs/", "web/", "workflows/")
    assert {name for name in tracked() if name.startswith(whole)} <= packed


NAMED = re.compile(r"""(?:_?module|part|core|import_module)\(f?"(?:\{NAME\}\.)?([a-z_.]+)"\)""")


def test_modules_that_are_named_in_texts_exist():
    """Processes with ComfyUI's modules import the pack by names that no type checker reads."""
    found = {
        (path.name, name)
        for folder in ("benchmarks", "tests/support", "tests/nodes")
        for path in (ROOT / folder).rglob("*.py")
        for name in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(found) > 40
    absent = []
    for file, name in sorted(found):
        places = [ROOT / start / Path(*name.split(".")) for start in ("", "core", "nodes")]
        if not any(place.is_dir() or place.with_suffix(".py").is_file() for place in places):
            absent.append(f"{file}: {name}")
    assert absent == []
