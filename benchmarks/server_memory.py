"""Memory of a ComfyUI server while one node makes many images.

Run: python benchmarks/server_memory.py [COMFYUI] [--first 100] [--last 1500] [--json FILE]

A real server on the CPU runs the miniature with one step an image: how memory grows with the
number of images does not depend on how well they are drawn. What the server holds is read after
the first so many images, and from then on to the end of the run, the contact sheet included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from verdicts import Verdict, conclude

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

GROWTH = 200
"""The most that a server may grow between the two counts, in MB."""
SEEDS = 10


def graph_of(count: int, folder: str) -> dict[str, Any]:
    """Return a graph that makes ``count`` images."""
    from tests.support.comfyui.graphs import generation

    plan = {
        "seeds": f"1-{SEEDS}", "scenarios": "red hoodie, park background\nwhite dress, beach",
        "takes": -(-count // (SEEDS * 2)),
    }  # fmt: skip
    return generation(folder, plan_widgets=plan, steps=1, cfg=1.0, limit=count)


def measure(server: Any, first: int, last: int) -> dict[str, Any]:
    """Make ``last`` images in one run; return what the server held, in MB."""
    process = psutil.Process(server.process.pid)

    def held() -> float:
        return process.memory_info().rss / 2**20

    folder = server.base / "output" / "memory"
    began = time.monotonic()
    number = server.queue(graph_of(last, "memory"))
    made, at_first, most, step = 0, 0.0, 0.0, []
    while number not in server.get(f"/history/{number}"):
        made = len(list(folder.glob("*.png")))
        if made >= first:
            at_first = at_first or held()
            most = max(most, held())
            step.append((made, round(held())))
        time.sleep(0.2 if last < 1000 else 1)
    done = server.wait(number)
    if done.status != "success" or len(list(folder.glob("*.png"))) != last:
        raise SystemExit(f"The run failed: {done.error}")
    return {
        "pictures": last,
        f"MB after {first}": round(at_first),
        f"most MB up to {last}": round(max(most, held())),
        "growth MB": round(max(most, held()) - at_first, 1),
        "course": step[:: max(1, len(step) // 10)],
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Start a server, measure, print and write the figures."""
    from quickstart import find_comfyui
    from tests.support.comfyui.server import Server

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comfyui", type=Path, nargs="?", default=find_comfyui())
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--last", type=int, default=1500)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.comfyui is None:
        parser.error("no ComfyUI: name its folder, or set COMFYUI_PATH")
    with tempfile.TemporaryDirectory() as base:
        server = Server(options.comfyui, Path(base))
        try:
            report = measure(server, options.first, options.last)
        finally:
            server.stop()
    for name, value in report.items():
        print(f"{name:28} {value}")
    promise = f"MB that a server grows from {options.first} to {options.last} images"
    return conclude(report, [Verdict(promise, report["growth MB"], GROWTH)], options.json)


if __name__ == "__main__":
    sys.exit(main())
