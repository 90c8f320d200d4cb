"""Processes that share an experiment: what each needs is made once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from character_curator.experiment.sharing import alone, together
from character_curator.generation.diffusers_backend import DiffusersBackend
from character_curator.generation.run import generate
from character_curator.plan import Request

SETTINGS = {"steps": 1, "guidance": 1.0, "width": 64, "height": 64, "device": "cpu"}


def requests(count):
    return [
        Request("base", 1, "scenario", n, 1, "", "", f"prompt {n}", "", "", n)
        for n in range(1, count + 1)
    ]


class Counting(DiffusersBackend):
    """Counts the batches that are made."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.batches = 0

    def sample(self, batch, on_step=None):
        self.batches += 1
        return super().sample(batch, on_step)


@pytest.fixture
def backends(tiny_sd15):
    return [Counting(tiny_sd15, **SETTINGS) for _ in range(2)]


def test_two_that_work_at_once_make_every_batch_once(backends, tmp_path):
    plan, start = requests(12), Barrier(2)

    def work(index):
        start.wait()
        make = together(tmp_path, (index, 2))
        return make(plan, backends[index], tmp_path / "base", batch_size=2)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    assert sum(backend.batches for backend in backends) == 6
    assert all(backend.batches for backend in backends)
    whole = generate(plan, backends[0], tmp_path / "alone", batch_size=2)
    for images in found:
        assert images.table["hash"].to_list() == whole.table["hash"].to_list()
        assert images.table["path"].to_list() == [request.file_name for request in plan]


def test_one_alone_makes_everything_and_the_next_nothing(backends, tmp_path):
    plan = requests(5)
    for backend, shard in zip(backends, ((1, 2), (0, 2)), strict=True):
        made = together(tmp_path, shard)(plan, backend, tmp_path / "base", batch_size=2)
        assert len(made) == 5
    assert [backend.batches for backend in backends] == [3, 0]


def test_a_killed_process_holds_no_lock(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from character_curator.experiment.sharing import alone\n"
        "with alone(Path(sys.argv[1]), 'work'):\n    print('in', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in\n"
        process.kill()

    def enter():
        with alone(tmp_path, "work"):
            return True

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter).result(timeout=60)  # nobody is waited for
