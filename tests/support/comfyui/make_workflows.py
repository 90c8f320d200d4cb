"""Writes workflows/*.json and subgraphs/*.json, all or those named.

    python -m tests.support.comfyui.make_workflows [NAME ...]

They are described in shipped_graphs.py and shipped_blueprints.py. What a node's inputs are is
asked of a ComfyUI that this script starts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def text_of(name, server):
    """Return the text of a graph's or a subgraph's file."""
    from tests.support.comfyui.canvas_layout import blueprint, canvas
    from tests.support.comfyui.shipped_blueprints import BLUEPRINTS
    from tests.support.comfyui.shipped_graphs import GRAPHS

    make, what = (canvas, GRAPHS) if name in GRAPHS else (blueprint, BLUEPRINTS)
    made = make(what[name], lambda kind: _info(server, kind))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _info(server, kind):
    """Return what a server says of a node.

    Newer versions give some stock output nodes (SaveImage) outputs; no shipped graph uses them.
    """
    info = server.get(f"/object_info/{kind}")[kind]
    if info["output_node"] and not kind.startswith("CharacterCurator_"):
        info |= {"output": [], "output_name": [], "output_is_list": []}
    return info


def main(names):
    """Write the graphs and the subgraphs."""
    from quickstart import find_comfyui
    from tests.support.comfyui.server import Server
    from tests.support.comfyui.shipped_blueprints import BLUEPRINTS
    from tests.support.comfyui.shipped_graphs import GRAPHS

    with tempfile.TemporaryDirectory() as base:
        server = Server(find_comfyui(), Path(base))
        try:
            for name in names or [*GRAPHS, *BLUEPRINTS]:
                path = ROOT / ("workflows" if name in GRAPHS else "subgraphs") / f"{name}.json"
                path.write_text(text_of(name, server), encoding="utf-8")
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
