"""Writes workflows/*.json: ``python tests/nodes/make_workflows.py [NAME ...]``.

The graphs are described in shipped_graphs.py. What a node's inputs are is asked of a ComfyUI that
this script starts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]


def text_of(name, server):
    """Return the text of a graph's file."""
    from canvas_layout import canvas
    from shipped_graphs import GRAPHS

    made = canvas(GRAPHS[name], lambda kind: server.get(f"/object_info/{kind}")[kind])
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main(names):
    """Write the graphs."""
    from comfy_server import Server
    from shipped_graphs import GRAPHS

    from quickstart import find_comfyui

    with tempfile.TemporaryDirectory() as base:
        server = Server(find_comfyui(), Path(base))
        try:
            for name in names or GRAPHS:
                path = ROOT / "workflows" / f"{name}.json"
                path.write_text(text_of(name, server), encoding="utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
