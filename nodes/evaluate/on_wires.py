"""Evaluation of a LoRA on ComfyUI's wires: core's figures of images that a KSampler makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.evaluation.setup import Setup
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
        sampling: Widgets of the KSampler, and the size.
        trained: MODEL and CLIP with the LoRA, in place of its file.
        on_image: Called with each finished image, a PIL image.
    """

    model: Any
    clip: Any
    vae: Any
    sampling: Sampling
    trained: tuple[Any, Any] | None
    on_image: Callable[[Any], None]


@dataclass(frozen=True)
class WireSetup(Setup):
    """An evaluation whose images are made on wires.

    Attributes:
        wires: What makes them.
    """

    wires: EvaluatedWires | None = None

    @staticmethod
    def on(wires: EvaluatedWires, setup: Setup) -> WireSetup:
        """Return the same evaluation, its images made on wires."""
        values = {field.name: getattr(setup, field.name) for field in fields(Setup)}
        return WireSetup(**values, wires=wires)

    def backend(self, lora: Path | None = None) -> WiresBackend:  # type: ignore[override]
        """Return what makes images: the base model, or the one with the LoRA."""
        wires = self.wires
        assert wires is not None  # noqa: S101  # there is no other way to make one
        model, clip = wires.model, wires.clip
        if lora is not None:
            model, clip = wires.trained or apply_lora(model, clip, lora, self.strength)
        marks = [weights_identity(part) for part in (model, clip.patcher, wires.vae.patcher)]
        return WiresBackend(
            model, wires.vae, clip, None, None, wires.sampling,
            name=str(self.model), fingerprint=" ".join(marks), on_image=wires.on_image,
        )  # fmt: skip
