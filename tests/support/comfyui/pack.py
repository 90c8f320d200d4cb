"""Imports the pack as ComfyUI does, by its folder, under a name of its own; or a part of it."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAME = "the_pack"
PARTS = "parts"


def import_pack():
    """Return the pack's root module; its nodes are ``the_pack.nodes``."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[NAME]


def part(name):
    """Import a module of nodes/, such as ``ui.paths``, without ComfyUI, which others there need."""
    if PARTS not in sys.modules:
        for package, folder in ((PARTS, ROOT), (f"{PARTS}.nodes", ROOT / "nodes")):
            module = types.ModuleType(package)
            module.__path__ = [str(folder)]
            sys.modules[package] = module
    return importlib.import_module(f"{PARTS}.nodes.{name}")


def core(name):
    """Import a module of the core that the parts of the nodes use."""
    part("ui.paths")
    return importlib.import_module(f"{PARTS}.core.{name}")


def start_comfyui(folder):
    """Make ComfyUI's modules importable, on a CPU."""
    sys.path.insert(0, folder)
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
