"""A pool of processes: order, bounds, errors, deaths, and no process left behind."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from character_curator.damages import collected_damage, summary
from character_curator.engines.here import Here
from character_curator.engines.processes import Processes
from character_curator.engines.turn import WorkerLostError
from character_curator.errors import WriteError
from tests.support.engine_works import SPOILED, Environment, Spoiled, Squares, TwoPartError

pytestmark = pytest.mark.filterwarnings("ignore:a library")


@pytest.fixture(scope="module")
def shared():
    """One pool for all tests that leave it alive."""
    with closing(Processes(2)) as engine:
        yield engine


@pytest.fixture(params=["here", "processes"])
def engine(request):
    return Here() if request.param == "here" else request.getfixturevalue("shared")


def _opened(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("opened-")) for path in folder.glob("opened-*")]


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _ended(pids: list[int], within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while any(map(_lives, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(_lives, pids))


def test_results_come_in_the_order_of_the_chunks(engine, tmp_path):
    work = Squares(tmp_path, slow=(0, 5), seconds=0.2)
    assert list(engine.map(work, range(20))) == [n * n for n in range(20)]


def test_nothing_is_done_without_chunks(engine, tmp_path):
    assert list(engine.map(Squares(tmp_path), [])) == []
    assert not _opened(tmp_path)


def test_notes_come_before_the_result_of_their_chunk(engine, tmp_path):
    seen = []
    for result in engine.map(Squares(tmp_path), range(6), tell=seen.append):
        assert ("begun", round(result**0.5)) in seen
    assert sorted(seen) == [("begun", n) for n in range(6)]


def test_both_work_and_each_opens_once(shared, tmp_path):
    work = Squares(tmp_path, slow=tuple(range(8)), seconds=0.05)
    list(shared.map(work, range(8)))
    list(shared.map(work, range(8)))
    assert len(_opened(tmp_path)) == 2
    assert os.getpid() not in _opened(tmp_path)


def test_few_chunks_are_taken_ahead(shared, tmp_path):
    taken = itertools.count()
    with closing(Processes(2)) as engine:
        results = engine.map(Squares(tmp_path), (next(taken) for _ in range(1000)))
        for _ in range(10):
            next(results)
        assert next(taken) <= 10 + 4 * 2 + 1


@pytest.mark.parametrize("full", [False, True])
def test_an_error_is_the_callers_at_its_turn(shared, tmp_path, full):
    engine = Processes(2)
    results = engine.map(Squares(tmp_path, slow=(2,), seconds=0.3, fails=(3,), full=full), range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    if full:
        with pytest.raises(WriteError, match=r"a\.png: no space left on device") as caught:
            next(results)
        assert (caught.value.errno, caught.value.exit_code) == (28, 2)
    else:
        with pytest.raises(TwoPartError, match=r"a\.png: number 3") as caught:
            next(results)
        assert caught.value.reason == "number 3"
    assert "in square" in str(caught.value.__cause__)
    assert _ended(_opened(tmp_path))


def test_the_chunks_of_a_killed_worker_come_again(tmp_path, caplog):
    with closing(Processes(2)) as engine:
        work = Squares(tmp_path, kills=(0, 7))
        assert list(engine.map(work, range(12))) == [n * n for n in range(12)]
    said = [r.getMessage() for r in caplog.records if "ended" in r.getMessage()]
    assert said == ["A worker process ended in the middle of its work (SIGKILL); another does "
                    "that part again."] * 2  # fmt: skip
    assert len(_opened(tmp_path)) == 4


def test_a_chunk_that_kills_each_worker_is_named(tmp_path):
    engine = Processes(2)
    results = engine.map(Squares(tmp_path, kills=(1,), times=9), range(4))
    with pytest.raises(WorkerLostError, match=r"3 times .*SIGKILL.*--workers 1"):
        list(results)
    assert _ended(_opened(tmp_path))


def test_closing_early_ends_the_workers(tmp_path):
    engine = Processes(2)
    work = Squares(tmp_path, slow=tuple(range(1, 99)), seconds=30)
    start = time.monotonic()
    with closing(engine.map(work, range(99))) as results:
        next(results)
    assert _ended(_opened(tmp_path), 0.1)
    assert time.monotonic() - start < 10
    assert list(engine.map(Squares(tmp_path), range(3))) == [0, 1, 4]
    engine.close()


def test_who_watches_may_cancel(tmp_path):
    def cancel(note):
        raise KeyboardInterrupt

    engine = Processes(1)
    with pytest.raises(KeyboardInterrupt):
        list(engine.map(Squares(tmp_path), range(9), tell=cancel))
    assert _ended(_opened(tmp_path), 0.1)


def test_no_worker_outlives_its_caller(tmp_path):
    code = (
        "from pathlib import Path; from tests.support.engine_works import Squares\n"
        "from character_curator.engines.processes import Processes\n"
        f"work = Squares(Path({str(tmp_path)!r}), slow=tuple(range(99)), seconds=60)\n"
        "list(Processes(2).map(work, range(99)))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    end = time.monotonic() + 30
    while len(_opened(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    workers = _opened(tmp_path)
    assert len(workers) == 2
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert _ended(workers)


def test_what_workers_say_alike_is_said_once_and_nothing_is_printed(tmp_path, caplog, capfd):
    with closing(Processes(2)) as engine, caplog.at_level(logging.INFO, "character_curator"):
        list(engine.map(Squares(tmp_path, slow=(0, 1), seconds=0.2), range(8)))
    assert [r.getMessage() for r in caplog.records if r.name.endswith("works")] == ["opened"]
    out, error = capfd.readouterr()
    assert out == ""
    assert "future" not in error


@pytest.mark.parametrize("kills", [-1, 5])
def test_damage_is_the_callers_whoever_finds_it(shared, tmp_path, kills):
    for engine in (Here(), shared):
        with collected_damage() as found:
            assert list(engine.map(Spoiled(tmp_path, kills if engine is shared else -1), range(8)))
        assert sorted(map(str, summary(found))) == sorted(SPOILED)
    assert len(list(tmp_path.glob("killed-*"))) == (kills > 0)


def test_one_caller_at_a_time(shared, tmp_path):
    with closing(shared.map(Spoiled(tmp_path), range(8))) as results:
        next(results)
        with pytest.raises(RuntimeError, match="at work already"):
            next(shared.map(Spoiled(tmp_path), range(8)))
        assert list(results) == [*range(1, 8)]
    with pytest.raises((AttributeError, pickle.PicklingError)):  # by the version of Python
        list(shared.map(lambda: None, range(8)))
    assert list(shared.map(Spoiled(tmp_path), range(3))) == [0, 1, 2]


def test_each_worker_is_told_its_threads_and_its_device():
    with closing(Processes(2, threads=3, devices=("4", "7"))) as engine:
        seen = list(engine.map(Environment(), ["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"] * 20))
    assert set(seen[::2]) == {"3"}
    assert set(seen[1::2]) <= {"4", "7"}
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
