"""One real ComfyUI server for a worker, on a CPU, with the pack linked into custom_nodes.

A pytest plugin: the fixtures of tests/nodes and tests/browser, and, at the end of a run, how many
tests were skipped because something that they drive is not installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from quickstart import find_comfyui
from tests.support.comfyui.versions import write_row

ROOT = Path(__file__).resolve().parents[3]

HOW = (
    "no ComfyUI: git clone https://github.com/comfyanonymous/ComfyUI ~/ComfyUI (or set "
    "COMFYUI_PATH to a checkout), then python quickstart.py --tests"
)
NEEDED = ("aiohttp", "comfyui_frontend_package", "alembic", "av", "torchsde")


@pytest.fixture(scope="session")
def comfyui():
    """ComfyUI's folder."""
    found = find_comfyui()
    if found is None:
        pytest.skip(HOW)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(
            f"no {', '.join(missing)}: ComfyUI's requirements are not installed; "
            "python quickstart.py --tests installs them"
        )
    return found


@pytest.fixture(scope="session")
def server(comfyui, tmp_path_factory):
    """A running server."""
    from tests.support.comfyui.server import Server

    started = Server(comfyui, tmp_path_factory.mktemp("comfyui"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def checkpoint(server, comfyui):
    """The name of a checkpoint of random weights in the server's models folder."""
    folder = server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "random_sd15.safetensors"
    module = "tests.support.comfyui.random_checkpoint"
    command = [sys.executable, "-m", module, str(comfyui), str(target)]
    subprocess.run(command, check=True, cwd=ROOT)
    yield target.name
    target.unlink()  # 2 GB, and temporary folders outlive a run


def pytest_addoption(parser):
    parser.addoption(
        "--versions", metavar="FILE", help="write which ComfyUI was tried, and what came of it"
    )


def pytest_terminal_summary(terminalreporter, config):
    """Say how many tests were skipped for want of what reason; keep the version, where asked."""
    stats = terminalreporter.stats
    reasons = Counter()
    for report in stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        reasons[reason.removeprefix("Skipped: ")] += 1
    for reason, count in reasons.items():
        if reason.startswith("no "):
            terminalreporter.write_line(f"{count} tests skipped: {reason}", yellow=True)
    record, tried = config.getoption("--versions"), find_comfyui()
    if record and tried:
        counts = {
            "passed": len(stats.get("passed", ())),
            "failed": len(stats.get("failed", ())) + len(stats.get("error", ())),
            "skipped": sum(reasons.values()),
            "skipped_because": dict(sorted(reasons.items())),
        }
        write_row(record, tried, counts)
