"""ComfyUI's entry: the extension and the web folder."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """Return the extension; the nodes load here, so that elsewhere this file needs no ComfyUI."""
    from .nodes import CharacterCuratorExtension

    return CharacterCuratorExtension()
