"""The engine of the command line decides where it works."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass

import pytest

from character_curator.engines import local
from character_curator.engines.local import Local, WorkersError, places, threads, workers_of
from character_curator.engines.work import Counted, Needs
from tests.support.engine_works import Squares

pytestmark = pytest.mark.filterwarnings("ignore:a library")


@dataclass(frozen=True)
class Heavy(Squares):
    """Takes more memory than may be tried out."""

    needs = Needs(4 * 2**30)


@pytest.fixture
def machine(monkeypatch):
    """Two cores, 32 GB, and our own program."""
    monkeypatch.delenv(local.VARIABLE, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "processors", lambda: 2)
    monkeypatch.setattr(local, "memory", lambda: 32 * 10**9)
    monkeypatch.setattr(local, "is_own_program", lambda: True)
    monkeypatch.setattr(local, "_START", 0.2)
    return monkeypatch


def _who(folder, work, count, workers=None):
    """Return the processes that opened the work, ours as "here"."""
    with closing(Local(workers)) as engine:
        chunks = Counted(iter(range(count)), count)
        assert list(engine.map(work, chunks)) == [n * n for n in range(count)]
    opened = {int(p.name.removeprefix("opened-")) for p in folder.glob("opened-*")}
    ours = os.getpid() in opened
    return ["here"] * ours + ["worker"] * (len(opened) - ours)


def test_what_is_soon_done_is_done_here(machine, tmp_path):
    assert _who(tmp_path, Squares(tmp_path), 9) == ["here"]


def test_what_takes_long_is_shared_after_the_first_two(machine, tmp_path):
    work = Squares(tmp_path, slow=tuple(range(14)), seconds=0.1)
    assert _who(tmp_path, work, 14) == ["here", "worker", "worker"]
    ours = sorted(int(p.name.partition("-")[0]) for p in tmp_path.glob(f"[0-9]*-{os.getpid()}"))
    assert ours == [0, 1]


def test_large_models_are_not_loaded_here_first(machine, tmp_path):
    assert _who(tmp_path, Heavy(tmp_path, slow=(0, 1), seconds=0.3), 4) == ["worker", "worker"]


def test_what_does_not_fit_twice_is_done_here(machine, tmp_path):
    machine.setattr(local, "memory", lambda: 8 * 2**30)
    assert _who(tmp_path, Heavy(tmp_path, slow=(0, 1), seconds=0.2), 4) == ["here"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_number_is_heeded(machine, tmp_path, workers):
    work = Squares(tmp_path, slow=(0, 1), seconds=0.3)
    assert len(_who(tmp_path, work, 4, workers)) == workers


def test_the_environment_says_how_many_where_nothing_else_does(machine, tmp_path):
    machine.setenv(local.VARIABLE, "5")
    assert Local().workers == 5
    assert Local(3).workers == 3
    machine.setenv(local.VARIABLE, "auto")
    assert Local().workers == 2
    machine.setenv(local.VARIABLE, "many")
    with pytest.raises(WorkersError, match=f"{local.VARIABLE} = many: give a number"):
        Local()


@pytest.mark.parametrize(("text", "count"), [("auto", None), (None, None), ("2", 2), (4, 4)])
def test_numbers_of_workers(text, count):
    assert workers_of(text, "here") == count


def test_threads_follow_from_the_machine_and_the_models(machine):
    machine.setattr(local, "processors", lambda: 8)
    assert (places(Needs(10**9)), threads(Needs(10**9))) == (8, 1)
    assert (places(Needs(10**10)), threads(Needs(10**10))) == (2, 4)
    assert (places(Needs(10**11)), threads(Needs(10**11))) == (1, 8)
    assert places(Needs(10**9, "mps")) == 1
    machine.setenv("OMP_NUM_THREADS", "2")
    assert threads(Needs(10**10)) == 1


_ASK = "from character_curator.engines.local import is_own_program as own; print(own())"


def test_only_our_own_program_starts_workers_unasked(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(_ASK)
    for name in ("script.py", "character-curator"):
        (tmp_path / name).write_text(_ASK)
        done = subprocess.run(
            [sys.executable, tmp_path / name], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(name != "script.py")
