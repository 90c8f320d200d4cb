"""Where ComfyUI keeps what a training writes.

The LoRA file goes into ``models/loras``. States and caches would be listed there as LoRAs, so they
are in ComfyUI's user folder, a folder for each set of inputs: whoever tries other settings and goes
back to the former ones finds that training where it was.
"""

from __future__ import annotations

from pathlib import Path

STORE = "features.sqlite"
REFERENCES = "references"
"""Folder of the control images that were wired."""


def lora_path(name: str) -> Path:
    """Return the file that a LoRA of a name goes to, in the first of ComfyUI's folders of LoRAs.

    Raises:
        PathNotAllowedError: The name leads out of that folder.
        ValueError: It is empty.
    """
    import folder_paths

    from ..ui.paths import contained

    stem = name.strip().removesuffix(".safetensors")
    if not stem.strip("/\\. "):
        raise ValueError("The LoRA needs a name, such as 'char1' or 'people/char1'.")
    root = Path(folder_paths.get_folder_paths("loras")[0])
    return contained(f"{stem}.safetensors", root, [root])


def lora_name(path: Path) -> str:
    """Return what ComfyUI's list of LoRAs calls a file of :func:`lora_path`."""
    import folder_paths

    root = Path(folder_paths.get_folder_paths("loras")[0]).resolve()
    return str(path.relative_to(root))


def work_folder(name: str) -> Path:
    """Return the folder of the trainings of a LoRA."""
    import folder_paths

    from ...core.naming import slug

    user = Path(folder_paths.get_user_directory())
    return user / "character_curator" / "training" / slug(name.removesuffix(".safetensors"))
