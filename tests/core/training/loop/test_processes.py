"""Several processes share a step, and come to the weights of one."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from character_curator.training.loop.processes import Processes
from character_curator.training.loop.sharding import ShardingError, sharded
from tests.support.tiny_denoiser import make_dataset

ROOT = Path(__file__).resolve().parents[4]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 7))
def test_the_passes_of_a_step_are_those_of_the_process_with_the_most(sizes, count):
    batches = [tuple(range(size)) for size in sizes]
    shares = [Processes(rank, count).share(batches) for rank in range(count)]
    assert Processes(0, count).passes(batches) == max(map(len, shares))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 7))
def test_every_row_belongs_to_one_process_and_keeps_its_position(sizes, count):
    numbers = iter(range(100, 200))
    batches = [tuple(next(numbers) for _ in range(size)) for size in sizes]
    seen = {}
    shares = [Processes(rank, count).share(batches) for rank in range(count)]
    for share in shares:
        for first, rows in share:
            assert rows
            assert any(set(rows) <= set(batch) for batch in batches)
            for i, row in enumerate(rows):
                assert first + i not in seen
                seen[first + i] = row
    flat = [row for batch in batches for row in batch]
    assert [seen[i] for i in range(len(flat))] == flat
    loads = [sum(len(rows) for _, rows in share) for share in shares]
    assert max(loads) - min(loads) <= 1


def test_one_process_changes_nothing():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    alone = Processes.current()
    assert alone == Processes()
    assert alone.add_gradients([parameter], 0.5) == 0.5
    assert parameter.grad.tolist() == [1.0, 2.0]
    with alone.first_alone():
        alone.wait()


SCRIPT = """
import dataclasses, json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.support.training_runs import SETTINGS, SIZES, run
from tests.support.tiny_denoiser import TinyDenoiser, make_examples
from character_curator.training import Callbacks
from character_curator.training.loop.processes import Processes
from character_curator.training.loop.sharding import ShardingError, sharded
from tests.support.tiny_denoiser import make_dataset

root = Path(sys.argv[1])
denoiser = TinyDenoiser()
denoiser.network.dropout.p = 0.0
settings = SETTINGS.replace(epochs=2, save_every=None)
processes = Processes.current()
with processes.first_alone():
    examples = make_examples(root / "images", 10, SIZES)
told = []
result, _ = run(examples, root / "run", settings, denoiser,
                callbacks=Callbacks(on_step=told.append))
(root / f"rank{processes.rank}.json").write_text(json.dumps([
    processes.count, len(told), denoiser.calls["predict"], result.best_loss,
    [float(p.double().sum()) for p in denoiser.parameters.values()],
]))
"""


@pytest.mark.slow
def test_two_processes_come_to_the_weights_of_one(tmp_path):
    pytest.importorskip("accelerate")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    # What 'accelerate launch' runs on several GPUs; on CPUs it would want MPI to do the same.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"
    }  # fmt: skip
    for name, command in {"one": [], "two": launch}.items():
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, *command, str(script), str(tmp_path / name)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads((tmp_path / "one" / "rank0.json").read_text())
    first = json.loads((tmp_path / "two" / "rank0.json").read_text())
    second = json.loads((tmp_path / "two" / "rank1.json").read_text())
    assert [alone[0], first[0], second[0]] == [1, 2, 2]
    assert first[1] > 0
    assert second[1] == 0  # the first alone tells
    assert first[4] == second[4]  # the same weights everywhere
    assert 0 < second[2] < alone[2]  # and the work is shared
    assert first[3] == pytest.approx(alone[3], rel=1e-5)
    for name in ("best.safetensors", "last.safetensors"):
        one, two = (load_file(tmp_path / run / "run" / name) for run in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)


def test_a_launcher_without_accelerate_is_named(monkeypatch):
    from character_curator.errors import MissingDependencyError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingDependencyError, match="pip install accelerate"):
        Processes.current()


class Trained:
    """``character-curator train`` on drawn images, by some processes at once."""

    def __init__(self, folder, count, *options):
        self.folder, self.count, self.options = folder, count, options
        self.port = str(29500 + os.getpid() % 1000 + count)

    def command(self):
        return [
            "-m", "character_curator", "train", str(self.folder.parent / "images"),
            "--base", "miniature", "--output", str(self.folder / "char1.safetensors"),
            "--preset", "default", "--rank", "2", "--epochs", "2", "--resolution", "64",
            "--batch-size", "3",
            "--accumulation", "2", "--validation-share", "0.3", "--validation-timesteps", "3",
            "--save-every", "1", "--trigger", "char1", *self.options,
        ]  # fmt: skip

    def begin(self):
        """Start the processes as a launcher does, without one that would end them."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, *self.command()]
        return [self._one(command, rank) for rank in range(self.count)]

    def _one(self, command, rank):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.port, "RANK": str(rank),
            "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.count), "COLUMNS": "200",
        }  # fmt: skip
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self):
        """Train to the end; return what the first process has said."""
        begun = self.begin()
        said = [process.communicate(timeout=400)[0] for process in begun]
        assert [process.returncode for process in begun] == [0] * self.count, "\n".join(said)
        return said[0]

    def weights(self):
        return load_file(self.folder / "char1.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The training by one process."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("processes")
    make_dataset(folder / "images", 7)
    trained = Trained(folder / "one", 1, "--no-samples")
    trained.run()
    return trained


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_command_trains_on_two_processes_with_samples_and_comes_to_the_same(alone):
    two = Trained(alone.folder.parent / "two", 2, "--sample-steps", "2", "--sample-every", "1")
    said = two.run()
    assert_alike(two.weights(), alone.weights())
    assert (two.folder / "char1.samples.png").is_file()
    assert "Train it anew with --restart" in two.run()
    assert said.count("Settings:") == 1  # the first alone tells


@pytest.mark.slow
def test_a_divided_base_comes_to_the_same(alone):
    divided = Trained(alone.folder.parent / "divided", 2, "--shard-base")
    said = " ".join(divided.run().split())
    assert "Each of 2 processes holds a part of the frozen weights of" in said
    assert "Nothing is sampled with a divided model" in said
    assert_alike(divided.weights(), alone.weights())


def test_a_divided_base_wants_several_processes_and_blocks():
    layer = torch.nn.Linear(2, 2)
    with sharded(layer, False, Processes()) as said:
        assert said == ""
    with sharded(layer, True, Processes()) as said:
        assert "had no effect" in said
    with (
        pytest.raises(ShardingError, match="Linear has no repeated blocks"),
        sharded(layer, True, Processes(0, 2)),
    ):
        pass


@pytest.mark.slow
def test_where_one_process_is_killed_the_other_names_it_and_the_next_run_goes_on(alone):
    killed = Trained(alone.folder.parent / "killed", 2, "--no-samples")
    processes = killed.begin()
    state = killed.folder / "char1.work" / "state.safetensors"
    deadline = time.monotonic() + 300
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[1].kill()
    said, _ = processes[0].communicate(timeout=120)
    assert processes[0].returncode not in (0, -9)
    assert "has lost another process of this training" in " ".join(said.split())
    assert "Traceback" not in said
    killed.port = str(int(killed.port) + 7)
    killed.run()
    assert_alike(killed.weights(), alone.weights())
