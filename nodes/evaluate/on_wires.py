"""Evaluation of a LoRA on ComfyUI's wires: what makes the images that core asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comfy.backend import WiresBackend
from ..comfy.identity import weights_identity
from ..train.apply_lora import apply_lora

if TYPE_CHECKING:
    from ..comfy.stock_graph import Sampling


@dataclass(frozen=True)
class EvaluatedWires:
    """What images are made with.

    Attributes:
        model: The base MODEL.
        clip: Its CLIP.
        vae: Its VAE.
        name: What the base model is called.
        sampling: Widgets of the KSampler, and the size.
        strength: Of the LoRA.
        trained: MODEL and CLIP with the LoRA, in place of its file.
        on_image: Called with each finished image, a PIL image.
    """

    model: Any
    clip: Any
    vae: Any
    name: str
    sampling: Sampling
    strength: float
    trained: tuple[Any, Any] | None
    on_image: Callable[[Any], None]

    def backend(self, lora: Path | None) -> WiresBackend:
        """Return what makes images: the base model, or the one with the LoRA."""
        model, clip = self.model, self.clip
        if lora is not None:
            model, clip = self.trained or apply_lora(model, clip, lora, self.strength)
        marks = [weights_identity(part) for part in (model, clip.patcher, self.vae.patcher)]
        return WiresBackend(
            model, self.vae, clip, None, None, self.sampling,
            name=self.name, fingerprint=" ".join(marks), on_image=self.on_image,
        )  # fmt: skip
