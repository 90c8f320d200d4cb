"""The package as it is installed."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import character_curator

ROOT = Path(__file__).parents[2]

USE = """
import character_curator
from character_curator import ImageSet, curate, evaluate, export, select
from character_curator.training import train

reveal_type(character_curator.train_lora)
reveal_type(evaluate)
reveal_type(curate)
reveal_type(select)
reveal_type(export)
reveal_type(ImageSet.from_folder("photos"))
reveal_type(train)
reveal_type(character_curator.__version__)
character_curator.no_such_name
"""

SEEN = (
    r"\(job: \S+\.LoraJob, settings: \S+\.TrainingSettings, .*\) -> \S+\.LoraResult",
    r"\(files: .*, dataset: .*, setup: \S+\.Setup, .*\) -> tuple\[\S+\.Evaluation, \.\.\.\]",
    r"\(images: \S+\.ImageSet, project: \S+\.Project, .*\) -> \S+\.Outcome",
    r"\(images: \S+\.ImageSet, total: int, quotas: .*\[\S+\.Quota \| str\].*\) -> \S+\.Selection",
    r"\(images: \S+\.ImageSet, output: .*, \*, name: str, .*\) -> \S+\.Exported",
    r"character_curator\.imageset\.ImageSet",
    r"\(denoiser: \S+\.Denoiser, .*\) -> \S+\.TrainingResult",
    r"str",
)
"""What an editor shall see of each line of the above."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as it is distributed, built from a copy of what is in the repository."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "core", copy / "core", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "-w", copy, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = copy.glob("character_curator-*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_the_wheel_holds_every_file_of_the_core(wheel):
    """Code, stubs, ``py.typed``, weights, templates: nothing is forgotten, nothing is added."""
    files = {
        f"character_curator/{path.relative_to(ROOT / 'core').as_posix()}"
        for path in (ROOT / "core").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == files
    assert {"character_curator/py.typed", "character_curator/training/__init__.pyi"} <= held


def test_who_installs_it_sees_types(wheel, tmp_path):
    """A type checker outside this repository, on a file that uses the package as installed."""
    venv.EnvBuilder().create(tmp_path / "env")
    site = next((tmp_path / "env").rglob("site-packages"))
    wheel.extractall(site, [name for name in wheel.namelist() if "/weights/" not in name])
    (tmp_path / "use.py").write_text(USE)
    python = next(path for path in (tmp_path / "env").glob("*/python*") if path.is_file())
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "use.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    seen = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(seen) == len(SEEN), done.stdout + done.stderr
    for pattern, shown in zip(SEEN, seen, strict=True):
        assert re.search(f"{pattern}$", shown), shown
    assert 'no attribute "no_such_name"' in done.stdout
    assert done.stdout.count("error:") == 1, done.stdout


def test_the_version_is_stated_once_for_people_and_once_for_the_registry():
    """ComfyUI's registry reads pyproject.toml; inside ComfyUI nothing is installed to ask."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+?)"', text, re.M)[1] == character_curator.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {character_curator.__version__}\n" in changes


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


@pytest.mark.parametrize("package", [path.parent for path in (ROOT / "core").rglob("__init__.pyi")])
def test_no_module_hides_a_public_name(package):
    """Importing a module puts it into its package, in place of a name that is loaded later."""
    stub = ast.parse((package / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert names, "the stub was read"
    assert names.isdisjoint(path.stem for path in package.iterdir())


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
