"""LoadMiniature: the embedded text-to-image model, so that every graph runs without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...core.errors import CuratorError
from ..ui.disk_state import always_answers, states
from ..ui.given import checks_inputs
from ..ui.wires import category, node_id, searched_as


class NoWeightsError(CuratorError):
    """The weights that come with the pack are not there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"The miniature's weights are missing: {folder}. Install the pack again.")


class LoadMiniature(io.ComfyNode):
    """Loads the miniature as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("LoadMiniature"),
            display_name="Load Miniature",
            **searched_as("test model", "tiny model", "demo checkpoint"),
            category=category("1 Generate"),
            description=(
                "Loads the small text-to-image model that comes with the pack: drawn portraits of "
                "128x128 pixels, made in a second on a CPU. Its wires fit every node that takes a "
                "MODEL, CLIP or VAE of Stable Diffusion 1.5."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The denoising model."),
                io.Clip.Output(display_name="CLIP", tooltip="The text encoder."),
                io.Vae.Output(display_name="VAE", tooltip="Between pixels and latents."),
            ],
        )

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, **_: Any) -> Any:
        """Load again when the weights have been replaced."""
        from ...core.miniature import DIFFUSION_PATH

        return states(DIFFUSION_PATH)

    @classmethod
    @checks_inputs
    def execute(cls) -> io.NodeOutput:
        """Load the three models."""
        from ...core.miniature import DIFFUSION_PATH
        from ..comfy.miniature import load_clip, load_model, load_vae

        if not (DIFFUSION_PATH / "model_index.json").is_file():
            raise NoWeightsError(DIFFUSION_PATH)
        folder = DIFFUSION_PATH
        return io.NodeOutput(load_model(folder), load_clip(folder), load_vae(folder))
