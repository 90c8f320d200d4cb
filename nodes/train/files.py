"""Where ComfyUI keeps what a training writes.

The LoRA file goes into ``models/loras``. States and caches would be listed there as LoRAs, so they
are in ComfyUI's user folder, a folder for each set of inputs: whoever tries other settings and goes
back to the former ones finds that training where it was.
"""

from __future__ import annotations

from pathlib import Path

from ...core.errors import CuratorError

STORE = "features.sqlite"
REFERENCES = "references"
"""Folder of the control images that were wired."""
MASKS = "masks"
"""Folder of the masks that were wired."""
NEW = "none"
"""What the list of LoRAs to go on from says of a new one."""


class LoraNameError(CuratorError):
    """A LoRA has no name, or that of the file that it goes on from."""


class NoLoraError(CuratorError):
    """The LoRA that a widget names is not in ComfyUI's folders."""


def lora_path(name: str) -> Path:
    """Return the file that a LoRA of a name goes to, in the first of ComfyUI's folders of LoRAs.

    Raises:
        PathNotAllowedError: The name leads out of that folder.
        LoraNameError: It is empty.
    """
    import folder_paths

    from ...core.naming import portable
    from ..ui.paths import contained

    stem = name.strip().removesuffix(".safetensors")
    if not stem.strip("/\\. "):
        raise LoraNameError("The LoRA needs a name, such as 'char1' or 'people/char1'.")
    root = Path(folder_paths.get_folder_paths("loras")[0])
    path = contained(f"{stem}.safetensors", root, [root])
    parts = path.relative_to(root.resolve()).parts
    return root.resolve().joinpath(*map(portable, parts))


def start_path(name: str, output: Path) -> Path | None:
    """Return the LoRA that a training goes on from.

    Args:
        name: As ComfyUI's list calls it, or :data:`NEW`.
        output: The file that the training writes.

    Returns:
        None for a new LoRA.

    Raises:
        NoLoraError: The list has no such file.
        LoraNameError: It is the file that is to be written.
    """
    import folder_paths

    if name == NEW or not name.strip():
        return None
    found = folder_paths.get_full_path("loras", name)
    if found is None:
        raise NoLoraError(
            f"There is no LoRA '{name}' in models/loras to go on from. Choose another in "
            f"continue_from, or '{NEW}'."
        )
    if Path(found).resolve() == output.resolve():
        raise LoraNameError(
            f"The training would go on from the file that it writes, {name}: each queue would "
            "train further. Choose another 'name'."
        )
    return Path(found)


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
