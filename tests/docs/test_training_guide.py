"""docs/training.md says what works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from character_curator import cli, project
from tests.support.guides import blocks, shell_lines
from tests.support.tiny_denoiser import make_dataset

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_its_commands_are_understood_and_its_options_exist():
    lines = shell_lines(GUIDE)
    own = [line.rpartition("-m character_curator ")[2] for line in lines]
    own = [line.removeprefix("character-curator ") for line in own]
    told = [cli.parser().parse_args(shlex.split(line)) for line in own]
    assert told[0].batch_size == 8
    assert len(told) >= 2
    train = cli.parser()._subparsers._group_actions[0].choices["train"]
    known = set(train._option_string_actions)
    # Launchers spell theirs with underscores.
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w-])", GUIDE)) <= known


def test_its_launcher_is_understood():
    launch = pytest.importorskip("accelerate.commands.launch")
    (line,) = [line for line in shell_lines(GUIDE) if "launch" in line]
    options = launch.launch_command_parser().parse_args(shlex.split(line)[2:])
    assert (options.multi_gpu, options.num_processes, options.module) == (True, 2, True)
    assert options.training_script == "character_curator"
    assert options.training_script_args[:1] == ["train"]


def test_its_piece_of_a_project_file_is_valid():
    (block,) = blocks(GUIDE, "toml")
    settings = project.parse('source = "x"\n' + block).training.settings()
    assert (settings.rank, settings.steps) == (8, 500)


def test_every_error_it_names_exists():
    sources = "".join(path.read_text() for path in (ROOT / "core").rglob("*.py"))
    for name in re.findall(r"`(\w+Error)`", GUIDE):
        assert f"class {name}(" in sources


@pytest.mark.slow
def test_it_runs_as_it_stands(tmp_path):
    make_dataset(tmp_path / "demo" / "dataset", 6)
    binary = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binary}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "guide.py").write_text("\n".join(blocks(GUIDE, "python")))
    for line in (blocks(GUIDE, "sh")[0], f"{shlex.quote(sys.executable)} guide.py"):
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "char1.loss.png").exists()
