"""Verify: the deployment checklist of a dataset and its LoRA, each line by doing what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..ui.damages import says_damage
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.sampling_inputs import sampling_inputs
from ..ui.widgets import widget
from ..ui.wires import Dataset, category, node_id, searched_as

_LIBRARIES = ("cv2", "insightface", "onnxruntime", "open_clip", "polars", "safetensors")


class Verify(io.ComfyNode):
    """Says whether a dataset and its LoRA are ready for production, and what is wrong if not."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.defaults import REGENERATED_IMAGES, TEST_PROMPTS
        from ...core.project_sections import ClipSection, FacesSection

        return io.Schema(
            node_id=node_id("Verify"),
            display_name="Verify",
            **searched_as("check dataset", "deployment checklist", "production ready", "sign off"),
            category=category("4 Train"),
            description=(
                "Goes through the deployment checklist of a dataset and its LoRA and does what "
                "each line says: reads and scores every image again, follows the LoRA back to "
                "the dataset, makes test images, makes images of the dataset again and compares "
                "them byte for byte. READY FOR PRODUCTION only when every line holds; of every "
                "other line what is wrong, where, and what to do."
            ),
            inputs=[
                Dataset.Input("dataset", tooltip="From DatasetExport or Load Dataset."),
                io.String.Input(
                    "lora_name", default="",
                    tooltip="The LoRA in models/loras that was trained on it; wire TrainLoRA's "
                    "lora_name here. Empty verifies the dataset alone.",
                ),
                io.String.Input(
                    "folder", default="char1/verification",
                    tooltip="Where test images go, in ComfyUI's output folder.",
                ),
                io.Int.Input(
                    "regenerate", default=REGENERATED_IMAGES, min=-1, max=1_000_000,
                    tooltip="So many images are made again and compared byte for byte; -1 makes "
                    "all of them.",
                ),
                io.Int.Input(
                    "samples", default=TEST_PROMPTS, min=1, max=10_000,
                    tooltip="The LoRA is tried with so many new prompts.",
                ),
                *sampling_inputs("euler", "normal"),
                io.Model.Input(
                    "model", optional=True,
                    tooltip="The base model, without the LoRA: makes test images, and images of "
                    "the dataset again.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="The base model's CLIP."),
                io.Vae.Input("vae", optional=True, tooltip="Decodes the latents."),
                widget(
                    FacesSection, "pack", default="", optional=True,
                    tooltip="Face models, as in FaceValidate; empty takes the dataset's own.",
                ),
                widget(
                    ClipSection, "model", "clip_model", default="", optional=True,
                    tooltip="CLIP model, as in ClipCluster; empty takes the dataset's own.",
                ),
                widget(
                    ClipSection, "pretrained", optional=True,
                    tooltip="Weights of that CLIP model, as in ClipCluster.",
                ),
                io.String.Input(
                    "approved_by", default="", optional=True,
                    tooltip="Your name, once you have looked at report and test images and approve "
                    "of them; with the fingerprint below.",
                ),
                io.String.Input(
                    "approved_fingerprint", default="", optional=True,
                    tooltip="The fingerprint that this node has told of what you have looked at. "
                    "Anything else is not signed.",
                ),
            ],
            outputs=[
                io.Boolean.Output(
                    display_name="ready", tooltip="Whether it is ready for production.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Every line of the checklist, and the verdict.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, dataset: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(_LIBRARIES) or True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        """Run every time: files may have changed since."""
        return float("nan")

    @classmethod
    @checks_inputs
    @says_damage(1)
    def execute(
        cls,
        dataset: Any,
        lora_name: str,
        folder: str,
        regenerate: int,
        samples: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        width: int,
        height: int,
        model: Any = None,
        clip: Any = None,
        vae: Any = None,
        pack: str = "",
        clip_model: str = "",
        pretrained: str = "",
        approved_by: str = "",
        approved_fingerprint: str = "",
    ) -> io.NodeOutput:
        """Go through the checklist, and write the verdict into the dataset."""
        from dataclasses import replace

        from ...core.dataset.checksums import FILE_NAME
        from ...core.dataset.verdict import ADDED_TO
        from ...core.verification import check_readiness, write_readiness
        from ..comfy.stock_graph import Sampling
        from ..curate.clip_cluster import clip_path
        from ..curate.face_validate import pack_path
        from ..train.apply_lora import file_and_metadata
        from ..train.files import work_folder
        from ..ui.disk_state import disk_state
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress
        from .approval import approve
        from .reports import report_of
        from .verified_wires import VerifiedWires

        place, root = Path(dataset), output_path(folder)
        file = file_and_metadata(lora_name)[0] if lora_name.strip() else None
        if file is not None and None in (model, clip, vae):
            raise InputsError("Wire 'model', 'clip' and 'vae': the LoRA is tried with them.")
        weights, named = clip_path(pretrained), clip_model.strip()
        clip_named = (clip_path(clip_model) or clip_model, weights) if named else None
        progress = NodeProgress()
        wires = VerifiedWires(
            cls.hidden.prompt or {}, cls.hidden.unique_id, model, clip, vae,
            Sampling(sampler_name, scheduler, steps, cfg, width, height), progress.image,
        )  # fmt: skip
        size = {"steps": steps, "guidance": cfg, "width": width, "height": height}

        def on_wires(setup: Any) -> Any:
            return replace(setup, model=wires.name, sampling=size, batch_size=1)

        readiness = check_readiness(
            place,
            file,
            regenerate="all" if regenerate < 0 else regenerate,
            faces=pack_path(pack) if pack.strip() else None,
            clip=clip_named,
            work=work_folder(lora_name) if file else None,
            samples=samples,
            samples_folder=root,
            setup=on_wires,
            with_lora=wires.with_lora,
            backend=wires.again,
            progress=progress,
        )
        readiness, told = approve(
            readiness, place, file, root, approved_by, approved_fingerprint.strip()
        )
        write_readiness(place, readiness)
        # What is written into the dataset is no reason to export it again.
        disk_state.record(place, [place / name for name in (*ADDED_TO, FILE_NAME)])
        report = report_of(readiness, told)
        return io.NodeOutput(readiness.is_ready, report, ui=ui.PreviewText(report))
