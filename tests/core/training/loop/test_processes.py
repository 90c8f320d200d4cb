"""Several processes share a step, and come to the weights of one."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from character_curator.training.loop.processes import Processes

ROOT = Path(__file__).resolve().parents[4]


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
