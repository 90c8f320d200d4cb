"""Actors of Ray: the same order, bounds and errors as a pool, and nothing lost when one dies."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from character_curator.damages import collected_damage, summary
from character_curator.engines.ray_cluster import ClusterError
from character_curator.engines.ray_engine import RayEngine
from character_curator.engines.turn import WorkerLostError
from character_curator.errors import WriteError
from tests.support.engine_works import SPOILED, Environment, Spoiled, Squares, TwoPartError

# Not imported here: Ray reads then whether it may print.
pytestmark = [
    pytest.mark.filterwarnings("ignore:a library"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture(scope="module")
def engine():
    with closing(RayEngine(2)) as made:
        yield made


def _opened(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("opened-")) for path in folder.glob("opened-*")]


def _ended(pids: list[int], within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _raylets(under: int) -> list[int]:
    """The processes that Ray has started for one."""
    found = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    return [int(pid) for pid, parent, args in rows if int(parent) == under and "ray" in args]


def test_results_come_in_order_and_notes_before_them(engine, tmp_path, caplog):
    work, seen = Squares(tmp_path, slow=(0, 1, 5), seconds=0.2), []
    for result in engine.map(work, range(20), tell=seen.append):
        assert ("begun", round(result**0.5)) in seen
    assert sorted(seen) == [("begun", n) for n in range(20)]
    for _ in range(50):  # one of them may have been started late
        list(engine.map(work, range(4)))
        if len(_opened(tmp_path)) > 1:
            break
    assert len(_opened(tmp_path)) == 2  # each opens once
    assert os.getpid() not in _opened(tmp_path)
    # What both say alike is said once.
    assert [r.getMessage() for r in caplog.records if r.name.endswith("works")] == ["opened"]
    assert list(engine.map(Squares(tmp_path), [])) == []


def test_few_chunks_are_taken_ahead(engine, tmp_path):
    taken = itertools.count()
    with closing(engine.map(Squares(tmp_path), (next(taken) for _ in range(1000)))) as results:
        for _ in range(10):
            next(results)
        assert next(taken) <= 10 + 4 * 2 + 1


def test_the_chunks_of_a_killed_worker_come_again(engine, tmp_path, caplog, capfd):
    work = Squares(tmp_path, kills=(0, 7))
    assert list(engine.map(work, range(12))) == [n * n for n in range(12)]
    said = [r.getMessage() for r in caplog.records if "ended" in r.getMessage()]
    assert len(said) == 2
    assert all("another does that part again" in line for line in said)
    assert len(_opened(tmp_path)) in (3, 4)  # the other one may have done both
    assert capfd.readouterr() == ("", "")  # where a command's result goes


def test_damage_is_the_callers_whoever_finds_it(engine, tmp_path):
    with collected_damage() as found:
        assert list(engine.map(Spoiled(tmp_path, kills=5), range(8))) == [*range(8)]
    assert sorted(map(str, summary(found))) == sorted(SPOILED)
    assert list(tmp_path.glob("killed-5-*"))


@pytest.mark.slow
def test_a_chunk_that_kills_each_worker_is_named(engine, tmp_path):
    results = engine.map(Squares(tmp_path, kills=(1,), times=9), range(4))
    with pytest.raises(WorkerLostError, match="3 times"):
        list(results)
    assert _ended(_opened(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_an_error_is_the_callers_at_its_turn(engine, tmp_path, full):
    results = engine.map(Squares(tmp_path, slow=(2,), seconds=0.3, fails=(3,), full=full), range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(WriteError if full else TwoPartError) as caught:
        next(results)
    if full:
        assert (caught.value.errno, caught.value.exit_code) == (28, 2)
    else:
        assert caught.value.reason == "number 3"
    assert "in square" in str(caught.value.__cause__)
    assert _ended(_opened(tmp_path))


@pytest.mark.slow
def test_closing_early_ends_the_workers(engine, tmp_path):
    work = Squares(tmp_path, slow=tuple(range(1, 99)), seconds=30)
    with closing(engine.map(work, range(99))) as results:
        next(results)
    assert _ended(_opened(tmp_path))
    assert list(engine.map(Squares(tmp_path), range(3))) == [0, 1, 4]


def test_each_worker_is_told_its_threads(engine):
    assert set(engine.map(Environment(), ["OMP_NUM_THREADS"] * 4)) == {"1"}
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


@pytest.mark.slow
def test_nobody_without_the_token_gets_in(engine, tmp_path):
    import ray

    assert list(engine.map(Squares(tmp_path), [3])) == [9]
    address = ray.get_runtime_context().gcs_address
    join = f"import ray; ray.init(address={address!r}); print('in')"
    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    for given, told in (({}, "in"), ({"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}, "")):
        joined = subprocess.run(
            [sys.executable, "-c", join], env=environment | {"RAY_AUTH_MODE": "token"} | given,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert joined.stdout.strip() == told
        assert (joined.returncode == 0) == bool(told)


@pytest.mark.slow
def test_nothing_outlives_a_caller_that_is_killed(tmp_path):
    code = (
        "from pathlib import Path; from tests.support.engine_works import Squares\n"
        "from character_curator.engines.ray_engine import RayEngine\n"
        f"work = Squares(Path({str(tmp_path)!r}), slow=tuple(range(99)), seconds=60)\n"
        "list(RayEngine(2).map(work, range(99)))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    end = time.monotonic() + 60
    while len(_opened(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    started = _opened(tmp_path) + _raylets(caller.pid)
    assert len(started) > 3
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert _ended(started, 30)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_named(tmp_path, address):
    with pytest.raises(ClusterError, match=f"{address}.*docs/cluster.md"):
        list(RayEngine(1, address=address).map(Squares(tmp_path), [1]))
