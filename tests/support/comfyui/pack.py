"""Imports the pack as ComfyUI does: by its folder, under a name of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAME = "the_pack"


def import_pack():
    """Return the pack's root module; its nodes are ``the_pack.nodes``."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[NAME]


def start_comfyui(folder):
    """Make ComfyUI's modules importable, on a CPU."""
    sys.path.insert(0, folder)
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
