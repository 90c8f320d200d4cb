"""Options that say where the work is done, and the section of a project file."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from character_curator.cli.engines import with_engine
from character_curator.engines.here import Here
from character_curator.engines.local import Local
from character_curator.engines.ray_engine import RayEngine
from character_curator.project import ProjectFileError, parse
from character_curator.project_parts import engine_of, recipe_of, working
from tests.support.commands import command, draw_people

PROJECT = 'source = "photos"\n'
RAY = PROJECT + '[engine]\nname = "ray"\nworkers = 3\naddress = "head:6379"\ngpus = 0.5\n'


def _with(text, *arguments):
    from character_curator.cli import parser

    return with_engine(parse(text), parser().parse_args(["run", "p.toml", *arguments]))


def test_the_section_says_what_does_the_work():
    engine = engine_of(parse(PROJECT))
    assert isinstance(engine, Local)
    assert (engine.workers, engine.shares) == (1, False)
    engine = engine_of(parse(PROJECT + "[engine]\nworkers = 2\n"))
    assert isinstance(engine, Local)
    assert (engine.workers, engine.shares) == (2, True)
    engine = engine_of(parse(RAY))
    assert isinstance(engine, RayEngine)
    assert (engine.workers, engine.parts) == (3, False)
    assert engine_of(parse(RAY + "parts = true\n")).parts


def test_options_say_more_than_the_file():
    found = _with(RAY, "--workers", "5", "--engine-parts", "--engine-cpus", "2").engine
    assert (found.name, found.workers, found.address, found.parts, found.cpus, found.gpus) == (
        "ray", 5, "head:6379", True, 2, 0.5,
    )  # fmt: skip
    assert _with(RAY).engine == parse(RAY).engine
    assert _with(PROJECT, "--engine", "ray").engine.name == "ray"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[engine]\naddress = "head:6379"\n', "engine: 'address' is for Ray"),
        ('[engine]\nname = "spark"\n', "line 3: engine.name"),
        ("[engine]\nworkers = 0\n", "line 3: engine.workers"),
        ('[engine]\nname = "ray"\ngpus = -1\n', "line 4: engine.gpus"),
    ],
)
def test_a_section_that_cannot_be_is_named(text, told):
    with pytest.raises(ProjectFileError, match=told):
        parse(PROJECT + text)


def test_options_that_do_not_go_together_are_named():
    with pytest.raises(ProjectFileError, match="the command line: engine: 'gpus' is for Ray"):
        _with(PROJECT, "--engine-gpus", "1")


def test_the_recipe_does_not_say_where_the_work_was_done():
    assert recipe_of(parse(RAY)) == recipe_of(parse(PROJECT))


def test_an_engine_that_is_given_stays_open():
    class Engine(Here):
        closed = False

        def close(self):
            self.closed = True

    engine = Engine()
    with working(parse(RAY), engine) as at_work:
        assert at_work is engine
    assert not engine.closed


def test_a_cluster_that_is_not_there_ends_the_command(tmp_path):
    folder = draw_people(tmp_path / "photos", 2)
    out, _ = command(
        "curate", folder, "--output", tmp_path / "dataset", "--engine", "ray",
        "--engine-address", "127.0.0.1:9", "--json", check=2,
    )  # fmt: skip
    assert json.loads(out)["error"] == "ClusterError"


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(tmp_path):
    draw_people(tmp_path / "in", 40)
    arguments = [
        sys.executable, "-m", "character_curator", "curate", str(tmp_path / "in"), "--output",
        str(tmp_path / "out"), "--faces", "miniature", "--clip", "miniature", "--total", "2",
        "--min-quality", "0", "--workers", "2", "--quiet",
    ]  # fmt: skip
    first = subprocess.Popen(arguments, start_new_session=True)
    store = tmp_path / "out.work" / "features.sqlite"
    end = time.monotonic() + 240
    while not (before := _measured(store)) and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    assert first.wait(30) == 130
    assert _is_gone(first.pid)
    assert _measured(store) >= before > 0
    assert subprocess.run(arguments, check=False).returncode == 0
    assert _measured(store) == 41


def _is_gone(group):
    """Whether nobody of a group of processes is left, soon: the last is multiprocessing's own."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _measured(store):
    """Return of how many images something is stored."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return connection.execute(
                "SELECT count(*) FROM feature WHERE analyser = 'pixels'"
            ).fetchone()[0]
    except sqlite3.Error:
        return 0
