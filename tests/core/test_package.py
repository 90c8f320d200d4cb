"""The package as it is installed."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import character_curator

ROOT = Path(__file__).parents[2]


def test_every_folder_of_code_is_installed():
    folders = {
        ".".join(("character_curator", *path.parent.relative_to(ROOT / "core").parts))
        for path in (ROOT / "core").rglob("__init__.py")
    }
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[\n(.*?)^\]", text, re.S | re.M)[1]
    assert set(re.findall(r'"([\w.]+)"', listed)) == folders


@pytest.mark.parametrize("name", character_curator.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(character_curator, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = character_curator.nothing


def test_importing_loads_nothing_heavy():
    code = (
        "import sys, character_curator, character_curator.cli, character_curator.project\n"
        "heavy = {'torch', 'cv2', 'diffusers', 'transformers', 'sklearn', 'insightface',"
        " 'open_clip', 'onnxruntime', 'scipy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_core_stands_alone():
    """Relative imports only, and nothing of ComfyUI."""
    foreign = {"character_curator", "core", "nodes", "folder_paths", "server"}
    for path in (ROOT / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            tops = {name.split(".")[0] for name in names}
            assert not tops & foreign, f"{path}:{node.lineno}: {tops}"
            assert not any(top.startswith("comfy") for top in tops), f"{path}:{node.lineno}"
    assert importlib.import_module("character_curator").__file__ == str(ROOT / "core/__init__.py")
