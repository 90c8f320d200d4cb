"""Images are made alike, to the byte, wherever that is done."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest

from character_curator.engines.processes import Processes
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.run import generate
from character_curator.plan import Plan, Scenario, Subject
from tests.support.killers import KillingBackend

SETTINGS = {"steps": 2, "guidance": 3.0, "width": 64, "height": 64, "threads": 1, "device": "cpu"}
PLAN = Plan(
    subjects=[Subject(name="char1", description="freckled woman", trigger="ohwx")],
    seeds=(1, 2),
    scenarios=[
        Scenario(number=n, name=f"scenario {n}", prompt=f"thing {n}", category="casual")
        for n in range(1, 6)
    ],
)


class Notes:
    """Watches, and keeps the notes of steps and of images."""

    def __init__(self):
        self.done, self.steps = 0, set()

    def start(self, stage, total):
        pass

    def advance(self, n=1, note=""):
        self.done += n
        if not n:
            self.steps.add(note.rpartition(": ")[2])

    def finish(self):
        pass


@pytest.mark.slow
def test_in_processes_of_which_one_is_killed_they_are_the_same(tiny_sd15, tmp_path, caplog):
    backend = DiffusersBackend(tiny_sd15, **SETTINGS)
    here = generate(PLAN, backend, tmp_path / "here", batch_size=3)
    notes = Notes()
    with closing(Processes(2)) as engine, caplog.at_level(logging.WARNING):
        apart = generate(
            PLAN, KillingBackend(backend, tmp_path / "killed"), tmp_path / "apart", batch_size=3,
            engine=engine, progress=notes,
        )  # fmt: skip
    assert (tmp_path / "killed").exists()
    assert "SIGKILL" in caplog.text
    assert apart.table.equals(here.table)
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "apart").iterdir()} == files
    assert notes.done == len(files) == 10
    assert notes.steps == {"step 1 of 2", "step 2 of 2"}
