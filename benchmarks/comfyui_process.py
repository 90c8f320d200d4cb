"""Turns this process into one with ComfyUI's modules and the pack, as a server has them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
NAME = "the_pack"


def start(folder: Path | None = None, *, cpu: bool = True) -> None:
    """Make ComfyUI's modules importable.

    Args:
        folder: Where ComfyUI is; ``COMFYUI_PATH`` or ``~/ComfyUI`` unless given.
        cpu: Compute on the CPU even where there is a GPU.
    """
    place = folder or Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
    if not (place / "comfy").is_dir():
        raise SystemExit(f"There is no ComfyUI in {place}: set COMFYUI_PATH.")
    sys.path.insert(0, str(place))
    sys.path.append(str(ROOT))  # the recipe of the miniature, beside core
    sys.argv = ["main.py", *(["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()


def pack() -> ModuleType:
    """Import the pack as ComfyUI does; its modules are ``the_pack.nodes`` and ``the_pack.core``."""
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module
