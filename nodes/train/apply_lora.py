"""A trained LoRA on the wires, and its images as IMAGE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.sd
import comfy.utils

from ..ui.images import to_tensor
from .files import NoLoraError

if TYPE_CHECKING:
    import torch

    from ...core.training.job import LoraJob


def apply_lora(model: Any, clip: Any, file: Path, strength: float = 1.0) -> tuple[Any, Any]:
    """Return MODEL and CLIP with a LoRA file, as the stock LoraLoader gives them."""
    weights = comfy.utils.load_torch_file(str(file), safe_load=True)
    return comfy.sd.load_lora_for_models(model, clip, weights, strength, strength)


def file_and_metadata(name: str, *, required: bool = True) -> tuple[Path, dict[str, str]]:
    """Find a LoRA in ComfyUI's folders of LoRAs, and read what it says of itself.

    Args:
        name: As ComfyUI's list calls it.
        required: Whether it must be there; otherwise the name alone may be returned.

    Raises:
        NoLoraError: It must, and is not.
        CheckpointError: It is broken, or a pickle.
    """
    import folder_paths

    from ...core.lora import file as lora_file

    found = folder_paths.get_full_path("loras", name) if name.strip() else None
    if found is not None:
        return Path(found), dict(lora_file.read(Path(found)).metadata)
    if required:
        raise NoLoraError(
            f"There is no LoRA '{name}' in models/loras. Wire TrainLoRA's lora_name, or name a "
            "file as LoraLoader lists it."
        )
    return Path(name.strip() or "trained.safetensors"), {}


def outputs_of(job: LoraJob) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the plot and the sample images of a training; grey where there is none."""
    return _image(job.beside(".loss.png")), _image(job.beside(".samples.png"))


def _image(path: Path) -> torch.Tensor:
    from PIL import Image

    if not path.is_file():  # the disk was full
        return to_tensor(Image.new("RGB", (64, 64), "grey"))
    with Image.open(path, formats=("PNG",)) as image:
        return to_tensor(image)
