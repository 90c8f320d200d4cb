"""How the whole suite runs: workers, threads, examples, longer suites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.support.comfyui.fixtures",)

# Workers share the cores, so that each library gets one thread. Set before any of them is imported,
# and inherited by the workers and by every process that a test starts.
for _name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# No power cut is waited for, except where a test is about that.
os.environ.setdefault("CURATOR_FSYNC", "0")

# How long an example takes says nothing on a shared machine.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

FIRST = (
    "core/test_pipeline.py",
    "core/selection/test_optimum.py",
    "core/training/denoisers/test_diffusers.py",
    "core/training/test_end_to_end.py",
    "core/training/loop/test_processes.py",
    "nodes/test_workflows.py",
    "browser/test_canvas.py",
    "nodes/test_flow.py",
    "core/generation/test_run.py",
    "core/training/loop/test_resume.py",
    "core/training/loop/test_loop.py",
    "core/lora/test_file_in_comfyui.py",
    "core/lora/test_file_in_diffusers.py",
    "core/generation/test_diffusers_backend.py",
    "miniature/test_faces.py",
    "core/analysis/test_quality.py",
)
"""The longest files: begun first, so that no worker is left with one of them at the end."""

MOST_WORKERS = 8
"""Each holds torch and some models: about 2 GB."""


def _place(item):
    return item.path.relative_to(Path(__file__).parent).as_posix()


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the longer suites too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Start a worker a core, and none for a single file."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chosen = [Path(argument.split("::")[0]) for argument in config.args]
    files = sum(len(list(p.rglob("test_*.py"))) if p.is_dir() else 1 for p in chosen)
    workers = min(cores or 1, files, MOST_WORKERS)
    return workers if workers > 1 else 0


def pytest_collection_modifyitems(config, items):
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(_place(item), len(FIRST)))
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="a longer suite: run with --slow"))
