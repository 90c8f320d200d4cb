"""Where a training keeps its state, and what says that it is finished.

The LoRA file goes into ``models/loras``. States and caches would be listed there as LoRAs, so they
are in ComfyUI's user folder, a folder for each set of inputs: whoever tries other settings and goes
back to the former ones finds that training where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.training.data.examples import Example
    from ...core.training.job import LoraJob
    from ...core.training.settings import TrainingSettings

FINISHED = "finished.json"
STORE = "features.sqlite"


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


def course_key(model: str, examples: Sequence[Example], settings: TrainingSettings) -> str:
    """Return what names the folder of a training: other inputs give another course.

    Args:
        model: Identity of the frozen weights.
        examples: What is trained with, prior-preservation images included.
        settings: Those that may differ when a training goes on do not count.
    """
    from ...core.training.loop.origin import FREE

    # What was trained before there were prior images keeps its folder.
    images = sorted(f"{e.hash} {e.caption} {e.face}{' prior' if e.prior else ''}" for e in examples)
    options = {key: value for key, value in settings.to_mapping().items() if key not in FREE}
    if settings.schedule != "constant":
        # The whole course of the rate depends on the length.
        options |= {"epochs": settings.epochs, "steps": settings.steps}
    return _digest([model, images, options])[:16]


def inputs_key(
    job: LoraJob, settings: TrainingSettings, course: str, further: Sequence[str]
) -> str:
    """Return the identity of everything that decides a LoRA file and its images."""
    samples = None if job.samples is None else asdict(job.samples)
    return _digest(
        [course, settings.to_mapping(), samples, str(job.output), str(job.base), list(further)]
    )


def is_finished(job: LoraJob, inputs: str) -> dict[str, Any] | None:
    """Return what was noted of a finished training; None unless its LoRA file is there whole."""
    from ...core.imageset import content_hash

    try:
        found = json.loads((job.folder / FINISHED).read_text(encoding="utf-8"))
        same = found["inputs"] == inputs and found["file"] == content_hash(job.output)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found["outcome"] if same else None


def note_finished(job: LoraJob, inputs: str, outcome: dict[str, Any]) -> None:
    """Note that a training is finished, and what came of it."""
    from ...core import atomic
    from ...core.imageset import content_hash

    noted = {"inputs": inputs, "file": content_hash(job.output), "outcome": outcome}
    atomic.write_text(job.folder / FINISHED, json.dumps(noted, indent=1))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
