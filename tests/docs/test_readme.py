"""The README's guides say what works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from character_curator import cli, project
from tests.support.guides import blocks, shell_lines

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    lines = shell_lines(README)
    return [line for line in lines if line.startswith("character-curator ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line):
    options = cli.parser().parse_args(shlex.split(line)[1:])
    assert callable(options.command)


def test_the_guides_have_commands():
    assert len(commands()) >= 4


@pytest.mark.parametrize("block", blocks(README, "toml"))
def test_every_piece_of_a_project_file_is_valid(block):
    base = 'source = "x"\n'
    assert project.parse(base + block)


def test_the_demo_project_is_valid_and_of_the_published_shape():
    from character_curator.project_parts import plan_of, quotas_of

    demo = project.read(ROOT / "core" / "demo.toml")
    plan = plan_of(demo)
    assert len(plan.requests()) >= 400
    assert plan.seeds == tuple(range(966983, 966993))
    assert demo.selection.total == 70
    assert demo.quality.minimum == 0.74
    assert len(quotas_of(demo)) == 4


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_guides_run_as_they_stand(tmp_path):
    """Every command of the README, in its order, in one folder."""
    (tmp_path / "core").symlink_to(ROOT / "core")
    binary = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binary}{os.pathsep}{os.environ['PATH']}"}

    def run(line):
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    run("character-curator demo")
    shutil.copytree(tmp_path / "demo" / "raw", tmp_path / "photos")
    for block in blocks(README, "sh"):
        for line in block.splitlines():
            run(line)
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks(README, "python")))
    run(f"{shlex.quote(sys.executable)} guide.py")
