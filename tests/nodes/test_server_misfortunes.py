"""A server is killed, its disk is full, or two of them write into one folder: the same bytes."""

import os
import random
import time

import pytest

from tests.support.comfyui.graphs import in_waves, node, training
from tests.support.comfyui.server import Server
from tests.support.faults import trees

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals and limits are of Unix"),
]

KILLS = 6
DATASET = "w/dataset"


def graph():
    """Images in waves, measured, selected, exported, and trained with."""
    made = in_waves("w", steps=2, total=6, quotas="scenario=2", quality=0.0, wave=4)
    train = training()["2"]["inputs"] | {"dataset": ["14", 0], "name": "killed", "steps": 6}
    del train["folder"]
    return {**made, "30": node("TrainLoRA", **train)}


def results(server):
    """Return every file that a server's graph has left for people, as it is to be compared."""
    return {
        f"{place}/{name}": value
        for place in ("output", "models/loras")
        for name, value in trees.contents(server.base / place).items()
    }


@pytest.fixture(scope="module")
def undisturbed(comfyui, tmp_path_factory):
    """What the graph makes, and how many seconds that takes."""
    server = Server(comfyui, tmp_path_factory.mktemp("undisturbed"))
    begun = time.monotonic()
    server.run(graph(), 600)
    took = time.monotonic() - begun
    server.stop()
    return results(server), took


def test_a_server_that_is_killed_goes_on_with_the_same_bytes(comfyui, tmp_path, undisturbed):
    expected, took = undisturbed
    moments = random.Random(0)
    for _ in range(KILLS):
        server = Server(comfyui, tmp_path)
        server.queue(graph())
        time.sleep(took * moments.uniform(0.05, 0.6))
        server.kill()
        assert trees.faults(tmp_path / "output", [DATASET]) == []
        assert trees.faults(tmp_path / "models" / "loras", []) == []
    server = Server(comfyui, tmp_path)
    server.run(graph(), 600)
    server.stop()
    assert trees.differences(results(server), expected) == []


@pytest.mark.parametrize("size", [200, 3_000, 30_000])
def test_a_full_disk_is_a_named_error_and_the_server_lives_on(comfyui, tmp_path, undisturbed, size):
    expected, _ = undisturbed
    server = Server(comfyui, tmp_path, log_apart=True)
    server.let_files_grow_to(size)
    run = server.wait(server.queue(graph()), 600)
    assert run.status == "error"
    assert "Free some space" in run.error
    assert trees.faults(tmp_path / "output", [DATASET]) == []
    server.let_files_grow_to(None)
    server.run(graph(), 600)
    server.stop()
    assert trees.differences(results(server), expected) == []


def test_two_servers_on_one_output_folder(comfyui, tmp_path, undisturbed):
    expected, _ = undisturbed
    bases = [tmp_path / name for name in ("one", "two")]
    for base in bases:
        base.mkdir()
    (bases[0] / "output").mkdir()
    (bases[1] / "output").symlink_to(bases[0] / "output")
    servers = [Server(comfyui, base) for base in bases]
    try:
        queued = [server.queue(graph()) for server in servers]
        runs = [server.wait(one, 900) for server, one in zip(servers, queued, strict=True)]
        said = [run.error for run in runs if run.status != "success"]
        assert trees.faults(bases[0] / "output", [DATASET]) == []
        if said:
            servers[0].run(graph(), 600)
    finally:
        for server in servers:
            server.stop()
    assert trees.differences(results(servers[0]), expected) == []
    assert all("Traceback" not in one for one in said), said
