"""EvaluateLoRA: prompts x seeds with a LoRA, rated image by image, beside the base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.sampling_inputs import sampling_inputs
from ..ui.widgets import widget
from ..ui.wires import Dataset, category, feature_store, node_id, searched_as
from ..ui.wires import Plan as PlanWire

_LIBRARIES = ("cv2", "insightface", "onnxruntime", "open_clip", "polars")


class EvaluateLoRA(io.ComfyNode):
    """Makes the evaluation grid of a LoRA, and measures it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import ClipSection, FacesSection

        return io.Schema(
            node_id=node_id("EvaluateLoRA"),
            display_name="EvaluateLoRA",
            **searched_as("test lora", "compare lora", "lora grid", "lora quality", "xy plot"),
            category=category("4 Train"),
            description=(
                "Makes images of every prompt with every seed, with the LoRA and with the base "
                "model, rates each, and measures: character consistency, artefacts, adherence to "
                "the prompt, leakage into the class word, diversity, and what was memorised. "
                "Images that are there already are not made again."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The base model, without the LoRA."),
                io.Clip.Input("clip", tooltip="The base model's CLIP."),
                io.Vae.Input("vae", tooltip="Decodes the latents."),
                Dataset.Input("dataset", tooltip="What the LoRA was trained on: who it is of."),
                io.String.Input(
                    "lora_name", default="char1.safetensors",
                    tooltip="The LoRA in models/loras; wire TrainLoRA's lora_name here.",
                ),
                io.String.Input(
                    "folder", default="char1/evaluation",
                    tooltip="Where images and figures go, in ComfyUI's output folder.",
                ),
                io.String.Input(
                    "prompts", multiline=True, default="",
                    tooltip="One a line, with {who} or the trigger word for the person. Empty "
                    "takes the seed document's three prompts with three seeds each.",
                ),
                io.String.Input(
                    "seeds", default="1-3",
                    tooltip="Noise seeds that each of your prompts is made with: 1-3, 42.",
                ),
                *sampling_inputs("euler", "normal"),
                widget(
                    FacesSection, "pack",
                    tooltip="Face models, as in FaceValidate.",
                ),
                widget(
                    ClipSection, "model", "clip_model",
                    tooltip="CLIP model that measures, as in ClipCluster.",
                ),
                widget(
                    ClipSection, "pretrained", optional=True,
                    tooltip="Weights of that CLIP model, as in ClipCluster.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-10.0, max=10.0, step=0.05, optional=True,
                    tooltip="Strength of the LoRA.",
                ),
                io.Boolean.Input(
                    "leakage", default=True, optional=True,
                    tooltip="Also make every image with the class word alone, with and without "
                    "the LoRA: it must not make the character.",
                ),
                io.Float.Input(
                    "identity_threshold", default=-1.0, min=-1.0, max=1.0, step=0.01, optional=True,
                    tooltip="Least cosine similarity that counts as the character; -1 derives it "
                    "from other people's faces, or from the dataset's own.",
                ),
                io.String.Input(
                    "trigger", default="", optional=True,
                    tooltip="The trigger word; empty takes the plan's, or the LoRA file's.",
                ),
                io.String.Input(
                    "class_word", default="", optional=True,
                    tooltip="What the person is, such as woman; empty takes the plan's, or the "
                    "dataset's.",
                ),
                PlanWire.Input(
                    "plan", optional=True,
                    tooltip="From Character Plan: trigger, class word and description.",
                ),
                io.Model.Input(
                    "trained_model", optional=True,
                    tooltip="A MODEL with the LoRA, in place of the file; wire trained_clip too.",
                ),
                io.Clip.Input(
                    "trained_clip", optional=True, tooltip="The CLIP that belongs to it.",
                ),
                io.Image.Input(
                    "references", optional=True,
                    tooltip="Images of the person, one face each, in place of the centre of the "
                    "dataset's faces.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="grid", tooltip="Prompts x seeds, a rating under each image.",
                ),
                io.String.Output(
                    display_name="figures", tooltip="The figures beside the base model's.",
                ),
                io.Float.Output(
                    display_name="score",
                    tooltip="Share of usable images x (1 - leakage), for comparing LoRAs.",
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
    @always_answers
    def fingerprint_inputs(
        cls, folder: str | None = None, lora_name: str | None = None, pack: str | None = None,
        clip_model: str | None = None, pretrained: str = "", **_: Any,
    ) -> Any:  # fmt: skip
        """Run again when an image is gone or changed, or LoRA, pack or CLIP have been replaced."""
        import folder_paths

        from ...core.hashing import file_state
        from ..curate.clip_cluster import clip_state
        from ..curate.face_validate import pack_files
        from ..ui.disk_state import output_fingerprint, states

        file = folder_paths.get_full_path("loras", lora_name) if lora_name else None
        return [
            output_fingerprint(folder),
            list(file_state(Path(file))) if file else None,
            states(pack_files(pack or "")),
            clip_state(clip_model or "", pretrained),
        ]

    @classmethod
    @checks_inputs
    @says_damage(1)
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        lora_name: str,
        folder: str,
        prompts: str,
        seeds: str,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        width: int,
        height: int,
        pack: str,
        clip_model: str,
        pretrained: str = "",
        strength: float = 1.0,
        leakage: bool = True,
        identity_threshold: float = -1.0,
        trigger: str = "",
        class_word: str = "",
        plan: Any = None,
        trained_model: Any = None,
        trained_clip: Any = None,
        references: Any = None,
    ) -> io.NodeOutput:
        """Make the images and measure them."""
        from dataclasses import replace

        from ...core.dataset.facts import read_facts
        from ...core.evaluation import evaluate
        from ...core.evaluation.character import Character
        from ...core.evaluation.setup import Setup
        from ...core.evaluation.threshold import ThresholdRule
        from ...core.lora.header import read_header
        from ...core.verification.training import read_trained
        from ...core.verification.troubleshooting import of_evaluation
        from ..comfy.identity import model_name
        from ..comfy.stock_graph import Sampling
        from ..curate.clip_cluster import clip_path
        from ..curate.face_validate import pack_path, reference_files
        from ..train.apply_lora import file_and_metadata
        from ..train.files import work_folder
        from ..ui.disk_state import disk_state
        from ..ui.images import to_tensor
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress
        from .grid import grid_of
        from .on_wires import EvaluatedWires
        from .texts import character_of, figures_of, prompts_of

        if (trained_model is None) != (trained_clip is None):
            raise InputsError("Wire both 'trained_model' and 'trained_clip', or neither.")
        trained = None if trained_model is None else (trained_model, trained_clip)
        file, metadata = file_and_metadata(lora_name, required=trained is None)
        place = Path(dataset)
        header = read_header(metadata).trigger_phrase
        known = Character.of(read_facts(place))
        character = character_of(known, plan, header, trigger, class_word)
        graph = cls.hidden.prompt or {}
        inputs = graph.get(cls.hidden.unique_id, {}).get("inputs", {})
        asked = prompts_of(prompts, seeds, character)
        progress = NodeProgress()
        sampling = Sampling(sampler_name, scheduler, steps, cfg, width, height)
        setup = Setup.of_dataset(
            place,
            model=model_name(graph, inputs.get("model")),
            prompts=asked,
            count=len(asked),
            sampling={"steps": steps, "guidance": cfg, "width": width, "height": height},
            batch_size=1,
            strength=strength,
            faces=pack_path(pack),
            clip=(clip_path(clip_model) or clip_model, clip_path(pretrained)),
            rule=ThresholdRule(identity_threshold if identity_threshold > -1 else None),
            with_class=leakage,
            grid=(),
        )
        wires = EvaluatedWires(
            model, clip, vae, str(setup.model), sampling, strength, trained, progress.image
        )
        root = output_path(folder)
        given = [] if references is None else reference_files(references)
        with feature_store() as store:
            [evaluation] = evaluate(
                [file], place, replace(setup, character=character), root, references=given,
                backend=wires.backend, store=store, metadata={file: metadata}, progress=progress,
            )  # fmt: skip
            found = of_evaluation(
                evaluation, place, setup, store, root,
                trained=read_trained(file, work_folder(lora_name)) if file.is_file() else None,
            )  # fmt: skip
        disk_state.record(root, [root / path for path in evaluation.table["path"]])
        grid = to_tensor(grid_of(evaluation, root))
        figures = figures_of(evaluation, found.sentences())
        return io.NodeOutput(
            grid, figures, float(evaluation.summary.score),
            ui={**ui.PreviewImage(grid, cls=cls).as_dict(), "text": (figures,)},
        )  # fmt: skip
