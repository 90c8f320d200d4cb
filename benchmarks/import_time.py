"""What the pack adds to ComfyUI's start.

Run: python benchmarks/import_time.py COMFYUI [TIMES]

Each time in a new process: ComfyUI's own modules are imported first, then the pack is imported and
its nodes' schemas are read, as ComfyUI does it. Before it asks a pack for its nodes, ComfyUI reads
the pack's pyproject.toml by pydantic models, so that pydantic is among its own modules.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 0.3
"""The most seconds that the pack may add."""

_ONCE = """
import asyncio, json, sys, time
sys.path[:0] = [{root!r}]
from tests.support.comfyui.pack import import_pack, start_comfyui
start_comfyui({comfyui!r})
import comfy.samplers, comfy.sd
from comfy_api.latest import ComfyExtension, io, ui
from comfy_config import config_parser
before = set(sys.modules)
begin = time.perf_counter()
extension = asyncio.run(import_pack().comfy_entrypoint())
nodes = asyncio.run(extension.get_node_list())
for node in nodes:
    node.GET_SCHEMA()
seconds = time.perf_counter() - begin
new = sorted({{name.split(".")[0] for name in set(sys.modules) - before}})
print("ONCE", json.dumps([seconds, len(nodes), new]))
"""


def once(comfyui: Path) -> tuple[float, int, list[str]]:
    """Import the pack in a new process.

    Returns:
        Seconds, the number of nodes, and the top-level modules that were imported.
    """
    code = _ONCE.format(root=str(ROOT), comfyui=str(comfyui))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = next(text for text in done.stdout.splitlines() if text.startswith("ONCE "))
    seconds, nodes, modules = json.loads(line.removeprefix("ONCE "))
    return seconds, nodes, modules


def main(comfyui: str, times: str = "5") -> int:
    """Print the figures; return the exit code."""
    from verdicts import Verdict, conclude

    runs = [once(Path(comfyui).expanduser()) for _ in range(int(times))]
    seconds = [run[0] for run in runs]
    print(f"{runs[0][1]} nodes in {statistics.median(seconds):.3f} s (median of {len(runs)};")
    print(f"from {min(seconds):.3f} to {max(seconds):.3f} s); modules: {', '.join(runs[0][2])}")
    promise = "seconds that the pack adds to ComfyUI's start"
    return conclude({}, [Verdict(promise, statistics.median(seconds), LIMIT)], None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
