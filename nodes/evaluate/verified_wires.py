"""Verification on ComfyUI's wires: what makes test images, and a dataset's images again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comfy.backend import WiresBackend
from ..comfy.identity import model_name, wires_identity
from .on_wires import EvaluatedWires

if TYPE_CHECKING:
    from ..comfy.stock_graph import Sampling


@dataclass(frozen=True)
class VerifiedWires:
    """What images are made with; without models nothing is.

    Attributes:
        graph: The queued graph.
        node: The node's number in it.
        model: The base MODEL; or None.
        clip: Its CLIP; or None.
        vae: Its VAE; or None.
        sampling: Widgets of the KSampler, and the size, of test images.
        on_image: Called with each finished image, a PIL image.
    """

    graph: Mapping[str, Any]
    node: str
    model: Any
    clip: Any
    vae: Any
    sampling: Sampling
    on_image: Callable[[Any], None]

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The node's inputs, as the graph has them."""
        return self.graph.get(self.node, {}).get("inputs", {})

    @property
    def name(self) -> str:
        """What the base model is called."""
        return model_name(self.graph, self.inputs.get("model"))

    def with_lora(self, lora: Path | None) -> WiresBackend:
        """Return what makes test images: the base model, or the one with the LoRA."""
        wires = EvaluatedWires(
            self.model, self.clip, self.vae, self.name, self.sampling, 1.0, None, self.on_image
        )
        return wires.backend(lora)

    def again(self, record: Mapping[str, Any]) -> WiresBackend | None:
        """Return what makes an image of a record again, if ComfyUI made it and models are wired."""
        settings = record["settings"]
        if settings.get("backend") != "comfyui" or None in (self.model, self.clip, self.vae):
            return None
        given = {"model": self.model, "vae": self.vae, "clip": self.clip}
        return WiresBackend(
            self.model, self.vae, self.clip, None, None,
            replace(
                self.sampling,
                sampler=settings["sampler"], scheduler=settings["scheduler"],
                steps=settings["steps"], cfg=settings["guidance"],
                width=settings["width"], height=settings["height"],
            ),
            name=self.name,
            fingerprint=wires_identity(self.graph, self.inputs, given, (None, None)),
            on_image=self.on_image,
        )  # fmt: skip
