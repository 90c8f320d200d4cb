"""What takes a server of its own or many images: memory, and libraries that are missing."""

import json
from pathlib import Path

import pytest

from tests.support.comfyui.graphs import NAMES, PREFIX, curation, generation

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

HIDE = """
import importlib.machinery, sys
class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] == "insightface":
            return None
        return super().find_spec(name, path, target)
at = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[at] = Without
"""
"""A sitecustomize.py with which Python finds everything but insightface."""


def test_memory_stays_flat_while_images_are_made(server, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # the benchmarks are scripts: they share there
    from benchmarks.server_memory import measure

    found = measure(server, 40, 240)
    assert found["growth MB"] < 200, found


@pytest.fixture(scope="module")
def poor_server(comfyui, tmp_path_factory):
    """A server in whose environment insightface is not installed."""
    from tests.support.comfyui.server import Server

    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "sitecustomize.py").write_text(HIDE)
    started = Server(comfyui, tmp_path_factory.mktemp("poor"), PYTHONPATH=str(hidden))
    yield started
    started.stop()


def test_a_missing_library_takes_one_node_away_and_says_so(poor_server):
    offered = [key for key in poor_server.get("/object_info") if key.startswith(PREFIX)]
    assert len(offered) == len(NAMES), "every node is there"
    graph = generation("poor", plan_widgets={"seeds": "1", "scenarios": "red hoodie"}, steps=1)
    poor_server.run(graph)
    whole = graph | curation(["3", 0], "poor/dataset")
    answer = poor_server.post("/prompt", {"prompt": whole, "client_id": "tests"})
    faulty = {entry["class_type"] for entry in answer["node_errors"].values()}
    assert faulty == {PREFIX + "FaceValidate"}
    assert "pip install insightface" in json.dumps(answer["node_errors"])
    assert "(IMPORT FAILED)" not in poor_server.text()


def test_two_builds_of_opencv_are_named_when_the_server_starts(comfyui, tmp_path_factory):
    from tests.support.comfyui.server import Server

    site = tmp_path_factory.mktemp("site")
    for name in ("opencv_python", "opencv_python_headless"):
        (site / f"{name}-9.9.dist-info").mkdir()
        (site / f"{name}-9.9.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9\n"
        )
    started = Server(comfyui, tmp_path_factory.mktemp("builds"), PYTHONPATH=str(site))
    started.stop()
    assert "Several builds of OpenCV are installed in one folder" in started.text()
