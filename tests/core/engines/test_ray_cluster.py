"""A cluster of two machines (two runtimes of Ray on this one), of which one is lost."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

SCRIPT = """
import json, logging, sys
from pathlib import Path
from ray.cluster_utils import Cluster
from character_curator.engines.ray_engine import RayEngine
from tests.support.engine_works import Squares

folder = Path(sys.argv[1])
said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("character_curator").addHandler(Keep())
machine = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args=machine | {"include_dashboard": False})
other = cluster.add_node(**machine)
engine = RayEngine(address=cluster.address)
workers = engine.workers
results = engine.map(Squares(folder, slow=tuple(range(99)), seconds=0.2), range(40))
found = [next(results)]
while len(list(folder.glob("opened-*"))) < 2:
    found.append(next(results))
cluster.remove_node(other, allow_graceful=False)
found += results
engine.close()
cluster.shutdown()
(folder / "found.json").write_text(json.dumps([workers, found, said]))
"""


def test_a_machine_that_is_lost_loses_nothing(tmp_path):
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parents[3], check=True,
        timeout=300, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, capture_output=True,
    )  # fmt: skip
    workers, found, said = json.loads((tmp_path / "found.json").read_text())
    assert workers == 2
    assert found == [n * n for n in range(40)]
    assert any("another does that part again" in line for line in said)
