"""An image that a node shows while it runs, where it will show its result.

ComfyUI's previews stay beside the result in the page's newer rendering: the last image would be
shown twice. So an image is told as a result that the next one replaces.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_SIDE = 512
"""The longest side of what is shown, in pixels."""
_FOLDER = "character_curator"


def show_while_running(image: Any) -> None:
    """Show a PIL image on the node that runs; without a page that listens, do nothing."""
    from comfy_execution.utils import get_executing_context
    from server import PromptServer  # type: ignore[import-not-found]

    context = get_executing_context()
    server: Any = getattr(PromptServer, "instance", None)
    if context is None or server is None or server.client_id not in server.sockets:
        return
    told = {
        "node": context.node_id,
        "display_node": _displayed(context.node_id),
        "output": {"images": [_written(image, context.node_id)]},
        "prompt_id": context.prompt_id,
    }
    server.send_sync("executed", told, server.client_id)


def _written(image: Any, node: str) -> dict[str, str]:
    """Write the image to ComfyUI's temp folder, which it empties; return its address."""
    import folder_paths

    from ...core import atomic

    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    place = Path(folder_paths.get_temp_directory()) / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    # A node in a subgraph has a number such as 5:3.
    name = f"running_{re.sub('[^0-9A-Za-z]', '_', node)}.jpg"
    atomic.write_jpeg(place / name, small, quality=90)
    return {"filename": name, "subfolder": _FOLDER, "type": "temp"}


def _displayed(node: str) -> str:
    """Return the node of the page that stands for one which another has expanded to."""
    from comfy_execution.progress import get_progress_state

    return str(get_progress_state().dynprompt.get_display_node_id(node))
