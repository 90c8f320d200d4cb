"""One real ComfyUI server for the session, on a CPU, with the pack linked into custom_nodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

HOW = (
    "no ComfyUI: clone https://github.com/comfyanonymous/ComfyUI, install its requirements.txt "
    "into this environment, and set COMFYUI_PATH to the folder"
)


def find_comfyui():
    """Return ComfyUI's folder: COMFYUI_PATH, the one around the pack, or ~/ComfyUI."""
    around = Path(__file__).resolve().parents[4]
    places = [os.environ.get("COMFYUI_PATH", ""), str(around), str(Path.home() / "ComfyUI")]
    for place in filter(None, places):
        if (Path(place) / "main.py").is_file() and (Path(place) / "comfy").is_dir():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def comfyui():
    """ComfyUI's folder."""
    import importlib.util

    found = find_comfyui()
    if found is None:
        pytest.skip(HOW)
    needed = ("aiohttp", "comfyui_frontend_package", "alembic", "av", "torchsde")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"ComfyUI's requirements are not installed: {', '.join(missing)}")
    return found


@pytest.fixture(scope="session")
def server(comfyui, tmp_path_factory):
    """A running server."""
    from comfy_server import Server

    started = Server(comfyui, tmp_path_factory.mktemp("comfyui"))
    yield started
    started.stop()
