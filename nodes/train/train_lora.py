"""TrainLoRA: a LoRA of a dataset, trained on the MODEL wire and applied to it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
from comfy_api.latest import io, ui

from ..comfy.references import AUTO, ENCODINGS
from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widget_values import LONGEST_TEXT
from ..ui.widgets import widget
from ..ui.wires import Dataset, category, node_id, searched_as
from .files import NEW

log = logging.getLogger(__name__)


def _advanced(widget: Any) -> Any:
    """Fold a widget away on canvases that know advanced ones."""
    widget.extra_dict = {**(widget.extra_dict or {}), "advanced": True}
    return widget


class TrainLoRA(io.ComfyNode):
    """Trains on whatever a KSampler takes, and gives it back with the LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.defaults import SAMPLE_GUIDANCE, SAMPLE_STEPS, SEED_DOCUMENT
        from ...core.training.presets import AUTO as BY_FAMILY
        from ...core.training.settings import TrainingSettings
        from .settings import preset_choices

        return io.Schema(
            node_id=node_id("TrainLoRA"),
            display_name="TrainLoRA",
            **searched_as(
                "lora training", "train character", "fine-tune", "finetune", "kohya", "make lora",
            ),
            category=category("4 Train"),
            description=(
                "Trains a LoRA on the wired model itself and writes it into models/loras. MODEL "
                "and CLIP come out with the LoRA applied, as the stock LoraLoader applies it. "
                "Cancel keeps the training; the next queue goes on. A finished training is not "
                "repeated."
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="What is trained on. LoRAs and patches on it stay in effect.",
                ),
                io.Clip.Input("clip", tooltip="Encodes the captions, each different one once."),
                io.Vae.Input("vae", tooltip="Encodes the images, each once."),
                Dataset.Input(
                    "dataset", optional=True, tooltip="From DatasetExport or Load Dataset.",
                ),
                io.String.Input(
                    "name", default="char1",
                    tooltip="Name of the LoRA in models/loras; may have folders: people/char1.",
                ),
                io.Combo.Input(
                    "preset", options=preset_choices(), default=BY_FAMILY,
                    tooltip="auto reads the model and takes what suits its family, such as rank, "
                    "learning rate, resolution, timesteps and guidance; the name of a family "
                    "takes its own. A widget that still has its default counts as not set and "
                    "follows the preset; one with another value, and options, go before it. as "
                    "set here: every widget counts as it is. seed-document: the document's recipe "
                    "(rank 8, alpha 8, to_q and to_v, dropout 0.05, learning rate 0.0001, 100 "
                    "epochs, one image a step) in place of the widgets that it names. The summary "
                    "says what was used.",
                ),
                widget(
                    TrainingSettings, "rank", max=1024,
                    tooltip="Inner width of the adapters: how much the LoRA can hold.",
                ),
                widget(
                    TrainingSettings, "alpha", min=0.01, max=4096.0, step=0.5,
                    tooltip="Strength of the adapters: alpha / rank.",
                ),
                widget(
                    TrainingSettings, "learning_rate", max=1e9, step=1e-6, round=1e-9,
                    tooltip="Peak learning rate of AdamW.",
                ),
                widget(
                    TrainingSettings, "epochs", max=100_000,
                    tooltip="Passes over the images.",
                ),
                widget(
                    TrainingSettings, "steps", default=0, min=0, max=10_000_000,
                    tooltip="Optimizer steps in all, in place of epochs; 0 trains the epochs.",
                ),
                widget(
                    TrainingSettings, "batch_size", max=256, tooltip="Images a step.",
                ),
                widget(
                    TrainingSettings, "resolution", min=64, max=4096, step=64,
                    tooltip="Side of a square of the area that images are fitted to; wide and "
                    "tall ones get buckets of that area. The miniature has 128.",
                ),
                widget(
                    TrainingSettings, "targets", options=["attention", "full", SEED_DOCUMENT],
                    tooltip="Layers that carry adapters: attention; full: feed-forward parts and "
                    "convolutions too. seed-document: queries and values alone. In options, "
                    "patterns of names.",
                ),
                widget(
                    TrainingSettings, "train_text_encoder",
                    tooltip="Adapt CLIP text encoders too; CLIP then comes out with the LoRA.",
                ),
                widget(
                    TrainingSettings, "seed", max=2**53 - 1,
                    tooltip="Decides order, noise and first weights: the same seed, the same LoRA.",
                ),
                widget(
                    TrainingSettings, "validation_share", max=0.9, step=0.01,
                    tooltip="Share of the images held out. Their loss, with fixed noise, names "
                    "the best epoch and that of convergence; 0 keeps the last epoch.",
                ),
                widget(
                    TrainingSettings, "sample_every", default=10, min=0, max=100_000,
                    tooltip="Epochs from one set of sample images to the next; 0 makes them in "
                    "the end alone.",
                ),
                io.String.Input(
                    "sample_prompts", multiline=True, default="",
                    tooltip="A prompt a line. Empty takes four of the captions.",
                ),
                _advanced(io.Int.Input(
                    "sample_steps", default=SAMPLE_STEPS, min=1, max=1000, optional=True,
                    tooltip="Steps of a sample image.",
                )),
                _advanced(io.Float.Input(
                    "sample_cfg", default=SAMPLE_GUIDANCE, min=0.0, max=100.0, step=0.1,
                    optional=True,
                    tooltip="Guidance of sample images; models with distilled guidance take 1.",
                )),
                _advanced(io.Combo.Input(
                    "sampler_name", options=list(comfy.samplers.KSampler.SAMPLERS),
                    default="euler", optional=True, tooltip="Sampler of sample images.",
                )),
                _advanced(io.Combo.Input(
                    "scheduler", options=list(comfy.samplers.KSampler.SCHEDULERS),
                    default="normal", optional=True, tooltip="Scheduler of sample images.",
                )),
                _advanced(widget(
                    TrainingSettings, "gradient_checkpointing", optional=True,
                    tooltip="Takes far less memory and about a third longer.",
                )),
                _advanced(io.String.Input(
                    "folder", default="", optional=True,
                    tooltip="A folder of images with captions in text files beside them, in "
                    "ComfyUI's input or output folder, where no dataset is wired.",
                )),
                _advanced(io.String.Input(
                    "trigger", default="", optional=True,
                    tooltip="The trigger word, for the file's header; empty takes the dataset's.",
                )),
                _advanced(io.String.Input(
                    "options", multiline=True, default="", optional=True,
                    tooltip="Further settings, one a line: dora = true, rslora = true, "
                    "min_snr_gamma = 5, schedule = \"cosine\", patience = 10; see the help page.",
                )),
                Dataset.Input(
                    "prior", optional=True,
                    tooltip="A dataset of others of the class (prior preservation): one of its "
                    "images is shown with each of the character, so that the class word does "
                    "not become the character.",
                ),
                io.Image.Input(
                    "reference_images", optional=True,
                    tooltip="Control images for edit models (Flux.1 Kontext, Flux.2, "
                    "Qwen-Image-Edit, OmniGen2): one for all, or one for each training image in "
                    "the order of the file names.",
                ),
                _advanced(io.String.Input(
                    "control_images", default="", optional=True,
                    tooltip="A folder of control images under the training images' names, in "
                    "ComfyUI's input or output folder; or the training images' own, where those "
                    "of NAME.png are NAME_control.png.",
                )),
                _advanced(io.Combo.Input(
                    "reference_encoding", options=list(ENCODINGS), default=AUTO, optional=True,
                    tooltip="The stock node that you sample with: the model is told of control "
                    "images as that node tells it. auto: the node of the model's family.",
                )),
                _advanced(io.Combo.Input(
                    "continue_from", options=[NEW, *folder_paths.get_filename_list("loras")],
                    default=NEW, optional=True,
                    tooltip="A LoRA in models/loras to train further, under another name. Kind, "
                    "rank, alpha and layers are then the file's, whatever the widgets say.",
                )),
                io.Mask.Input(
                    "masks", optional=True,
                    tooltip="What the loss counts: white as 1, black as unmasked_weight (0.1, in "
                    "options). One for all, or one for each training image in the order of the "
                    "file names, from BiRefNet, SAM or any other node that gives a MASK.",
                ),
                _advanced(io.String.Input(
                    "mask_files", default="", optional=True,
                    tooltip="The same from files: beside takes the masks that DatasetExport has "
                    "written (or NAME-masklabel.png, masks/NAME.png, transparent pixels); or a "
                    "folder with masks under the images' names, in ComfyUI's input or output "
                    "folder.",
                )),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The model with the LoRA."),
                io.Clip.Output(display_name="CLIP", tooltip="With the LoRA, if it was trained."),
                io.AnyType.Output(
                    display_name="lora_name", tooltip="Its name, a text, as LoraLoader takes it.",
                ),
                io.Image.Output(display_name="plot", tooltip="The losses over the epochs."),
                io.Image.Output(display_name="samples", tooltip="Sample images, epoch by epoch."),
                io.String.Output(display_name="summary", tooltip="What came of the training."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, options: Any = "") -> Any:
        """Refuse to be queued where a library is missing or an option is wrong."""
        missing = missing_libraries(("peft", "polars", "safetensors"))
        if missing is not None:
            return missing
        from .settings import faults

        # A wire's text is not known yet; a longer one is refused when the node runs.
        known = isinstance(options, str) and len(options) <= LONGEST_TEXT
        return (faults(options) if known else None) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(
        cls, name: str | None = None, folder: str = "", control_images: str = "",
        continue_from: str = NEW, mask_files: str = "", **_: Any,
    ) -> Any:  # fmt: skip
        """Run again when the LoRA file is gone or changed, or what it is made from is."""
        from ...core.hashing import file_state
        from ..ui.disk_state import disk_state, listing
        from ..ui.paths import readable_path
        from .files import lora_path

        files = "".join(
            str(listing(readable_path(f)))
            for f in (folder, control_images, _folder_of(mask_files or ""))
            if f
        )
        found = folder_paths.get_full_path("loras", continue_from) if continue_from else None
        begun = [] if found is None else file_state(Path(found))
        return [disk_state.fingerprint(lora_path(name)) if name else 0, files, *begun]

    @classmethod
    @checks_inputs
    @says_damage(5)
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        name: str,
        preset: str,
        sample_prompts: str,
        dataset: Any = None,
        sample_steps: int = 20,
        sample_cfg: float = 4.0,
        sampler_name: str = "euler",
        scheduler: str = "normal",
        folder: str = "",
        trigger: str = "",
        options: str = "",
        prior: Any = None,
        reference_images: Any = None,
        control_images: str = "",
        reference_encoding: str = "auto",
        continue_from: str = NEW,
        masks: Any = None,
        mask_files: str = "",
        **widgets: Any,
    ) -> io.NodeOutput:
        """Train, or find the finished training, and apply its file."""
        import torch

        from ...core.training.job import LoraJob
        from ..comfy.identity import model_name, model_says
        from ..comfy.model_kinds import family_of
        from ..ui.disk_state import disk_state
        from ..ui.paths import readable_path
        from .apply_lora import apply_lora, outputs_of
        from .files import lora_name, lora_path, start_path
        from .on_wires import Base, train_on_wires
        from .settings import sample_settings, training_settings, with_samples
        from .view import TrainingView

        if dataset is None and not folder.strip():
            raise InputsError(
                "There is nothing to train on: wire 'dataset' (DatasetExport, Load Dataset), or "
                "name a folder of captioned images in 'folder'."
            )
        if reference_images is not None and control_images.strip():
            raise InputsError("Wire 'reference_images' or name 'control_images', not both.")
        if masks is not None and mask_files.strip():
            raise InputsError("Wire 'masks' or say 'mask_files', not both.")
        graph = cls.hidden.prompt or {}
        inputs = graph.get(cls.hidden.unique_id, {}).get("inputs", {})
        base_name = model_name(graph, inputs.get("model"))
        says = model_says(base_name)
        guess = family_of(model, {"the model's name": base_name, **says})
        chosen = training_settings(preset, widgets, options, guess)
        chosen = with_samples(chosen, preset, sample_steps, sample_cfg)
        output = lora_path(name)
        job = LoraJob(
            dataset=Path(dataset) if dataset is not None else readable_path(folder),
            output=output,
            base=base_name,
            base_says=says,
            trigger=trigger.strip() or None,
            prior=None if prior is None else Path(prior),
            start=start_path(continue_from, output),
            samples=sample_settings(sample_prompts, chosen),
            control_images=readable_path(control_images) if control_images.strip() else None,
            masks=_masks_of(mask_files),
        )
        view = TrainingView(cls.hidden.unique_id, job.beside(".loss.png"))
        base = Base(
            model, clip, vae, sampler_name, scheduler, reference_images, reference_encoding, masks
        )
        # A prompt runs without gradients.
        with torch.inference_mode(False), torch.enable_grad():
            summary = train_on_wires(job, chosen, base, view)
        files = [output, job.beside(".loss.png"), job.beside(".samples.png")]
        disk_state.record(output, [file for file in files if file.is_file()])
        trained, text = apply_lora(model, clip, output)
        plot, samples = outputs_of(job)
        return io.NodeOutput(
            trained, text, lora_name(output), plot, samples, summary,
            ui={**ui.PreviewImage(samples, cls=cls).as_dict(), "text": (summary,)},
        )  # fmt: skip


def _folder_of(text: str) -> str:
    """Return the folder that a text about masks names; empty where it names none."""
    return "" if text.strip() in ("", "beside") else text


def _masks_of(text: str) -> Any:
    """Return where masks lie, as a job has it; None where none are asked for."""
    from ..ui.paths import readable_path

    return readable_path(text) if _folder_of(text) else text.strip() or None
