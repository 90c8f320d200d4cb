"""Images that workers of Ray make, one of which is killed, are the same to the byte."""

from __future__ import annotations

import importlib.util
from contextlib import closing

import pytest

from character_curator.engines.ray_engine import RayEngine
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.run import generate
from character_curator.plan import Plan, Scenario, Subject
from tests.support.ray_processes import KillsAWorker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

PLAN = Plan(
    subjects=[Subject(name="char1", description="freckled woman", trigger="ohwx")],
    seeds=tuple(range(1, 13)),
    scenarios=[
        Scenario(number=n, name=f"scenario {n}", prompt=f"thing {n}", category="casual")
        for n in (1, 2, 3)
    ],
)


def test_every_file_is_the_same_though_a_worker_is_killed(tiny_sd15, tmp_path, caplog):
    backend = DiffusersBackend(
        tiny_sd15, steps=2, guidance=3.0, width=64, height=64, threads=1, device="cpu"
    )
    here = generate(PLAN, backend, tmp_path / "here", batch_size=2)
    progress = KillsAWorker(after=4)
    with closing(RayEngine(2)) as engine:
        apart = generate(
            PLAN, backend, tmp_path / "apart", batch_size=2, engine=engine, progress=progress
        )
    assert progress.killed
    assert "another does that part again" in caplog.text
    assert apart.table.equals(here.table)
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "apart").iterdir()} == files
    assert progress.done == len(files) == 36
