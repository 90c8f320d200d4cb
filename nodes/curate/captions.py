"""CaptionImages and EditCaptions: captions by a model, and edited all together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ...core.counts import how_many, worded
from ..ui.damages import says_damage
from ..ui.disk_state import always_answers, states
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as
from .caption_operations import operations

if TYPE_CHECKING:
    from ...core.captions.captioners import Captioner
    from ...core.captions.imagesets import CaptionedSet
    from ...core.captions.settings import CaptionSettings

_MODEL_FOLDERS = ("", "captioners", "taggers", "wd14_tagger", "LLM", "VLM", "llm", "vlm")
"""Folders in ComfyUI's models folder in which models that write captions are looked for."""
_SHOWN = 20


class CaptionImages(io.ComfyNode):
    """Lets a model write captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.captions.settings import CaptionSettings

        return io.Schema(
            node_id=node_id("CaptionImages"),
            display_name="CaptionImages",
            **searched_as("caption", "WD14 tagger", "Florence-2", "Qwen-VL", "describe images"),
            category=category("2 Curate"),
            description=(
                "Lets a tagger or a vision-language model write the captions of accepted images: "
                "what varies from image to image, and not who it is. What it has said once it is "
                "not asked again."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="Any image set; after BalancedSelect only the "
                               "selected images are captioned."),
                io.String.Input(
                    "model", default="florence-2-base",
                    tooltip="wd-eva02-large-tagger-v3, florence-2-base, florence-2-large, an id of "
                    "the Hugging Face hub such as Qwen/Qwen2.5-VL-3B-Instruct (downloaded once), "
                    "or a folder in ComfyUI's models folder. Not used with clip.",
                ),
                widget(CaptionSettings, "existing"),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="Instead of a model by name: a text encoder that sees and writes, such "
                    "as Qwen3-VL, Gemma 3 with vision or Qwen3.5, where this ComfyUI has Generate "
                    "Text.",
                ),
                widget(CaptionSettings, "style", optional=True),
                widget(CaptionSettings, "prompt", optional=True, multiline=True),
                widget(CaptionSettings, "max_tokens", optional=True),
                widget(CaptionSettings, "threshold", step=0.01, optional=True),
                widget(CaptionSettings, "character_threshold", step=0.01, optional=True),
                widget(CaptionSettings, "categories", optional=True),
                widget(CaptionSettings, "order", optional=True),
                widget(CaptionSettings, "underscores", optional=True),
                widget(CaptionSettings, "exclude", optional=True),
                widget(CaptionSettings, "most", max=1000, optional=True),
                widget(CaptionSettings, "batch", optional=True),
                widget(CaptionSettings, "precision", optional=True),
            ],
            outputs=[
                ImageSet.Output(display_name="images", tooltip="With captions."),
                io.String.Output(
                    display_name="captions", is_output_list=True,
                    tooltip="A list of the new captions, in the order of the images.",
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="How many captions were made, and which were not and why.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("cv2", "polars", "transformers", "onnxruntime")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, model: str | None = None, **_: Any) -> Any:
        """Run again when the model's files have been replaced."""
        place = model_place(model or "")
        return states(place) if isinstance(place, Path) else "of the hub"

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(
        cls, images: Any, model: str, existing: str, clip: Any = None, **options: Any
    ) -> io.NodeOutput:
        """Write the captions."""
        from ...core.captions.imagesets import caption_images
        from ...core.captions.settings import caption_settings
        from ..ui.progress import NodeProgress

        settings = caption_settings({"existing": existing, **options})
        chosen = _captioner(model, clip, settings)
        with feature_store() as store:
            made = caption_images(
                images, chosen, settings=settings, store=store, progress=NodeProgress()
            )
        texts = [one.text for one in made.made.values() if one.text]
        summary = _summary(made, chosen.name, settings)
        return io.NodeOutput(made.images, texts, summary, ui={"text": (summary,)})


class EditCaptions(io.ComfyNode):
    """Edits captions all together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("EditCaptions"),
            display_name="Edit Captions",
            **searched_as("edit tags", "prune tags", "trigger word", "replace in captions"),
            category=category("2 Curate"),
            description=(
                "Edits the captions of all accepted images in the order of the widgets, shows what "
                "changes, counts what captions say, and says what may be wrong with them. Nothing "
                "is written: change a widget to take an edit back."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="Any image set with captions."),
                io.String.Input(
                    "replace", default="", multiline=True,
                    tooltip="A line a replacement, as 'old words => new words'; /pattern/ => new "
                    "replaces by a regular expression. Nothing behind => takes the words away.",
                ),
                io.String.Input(
                    "remove", default="",
                    tooltip="Phrases that are taken away, with commas between.",
                ),
                io.Float.Input(
                    "prune", default=0.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Takes away what this share of the captions says: 1 is what all say, "
                    "which belongs to the trigger word; 0 prunes nothing.",
                ),
                io.String.Input(
                    "keep", default="", optional=True,
                    tooltip="Phrases that are not pruned, with commas between.",
                ),
                io.String.Input(
                    "add", default="", optional=True,
                    tooltip="Phrases that are added behind, with commas between, where they are "
                    "not yet.",
                ),
                io.String.Input(
                    "trigger", default="", optional=True,
                    tooltip="The trigger word that is put in front; DatasetExport does so too.",
                ),
                io.Boolean.Input(
                    "deduplicate", default=True, optional=True,
                    tooltip="Takes phrases away that a caption has said before.",
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images", tooltip="With the edited captions, exported as they are."
                ),
                io.String.Output(
                    display_name="preview", tooltip="What has changed, before and after."
                ),
                io.String.Output(
                    display_name="frequencies", tooltip="How many captions say what, afterwards."
                ),
                io.String.Output(
                    display_name="lint",
                    tooltip="What may be wrong with the captions: contradictions, length, no "
                    "trigger word.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("polars", "tokenizers")) or True

    @classmethod
    @checks_inputs
    def execute(
        cls,
        images: Any,
        replace: str,
        remove: str,
        prune: float,
        keep: str = "",
        add: str = "",
        trigger: str = "",
        deduplicate: bool = True,
    ) -> io.NodeOutput:
        """Edit the captions."""
        from ...core.captions.counting import frequencies
        from ...core.captions.imagesets import edit_image_set
        from ...core.captions.linting import lint
        from ...core.captions.tokens import text_encoder

        word = trigger.strip()
        done = operations(replace, remove, prune, keep, add, word, deduplicate)
        edited, made = edit_image_set(images, done, trigger=word)
        shown = [f"{one.image}\n- {one.before}\n+ {one.after}" for one in made.changes[:_SHOWN]]
        more = len(made.changes) - len(shown)
        rows = how_many(len(made.table.rows), "caption")
        told = f"{len(made.changes):,} of {rows} {worded(len(made.changes), 'changes', 'change')}."
        preview = "\n".join([told, *made.notes, *shown, *([f"… and {more} more"] if more else [])])
        counted = "\n".join(f"{one.count}  {one.text}" for one in frequencies(made.table.texts))
        found = [f"{one.kind}: {one.image} {one.detail}".strip()
                 for one in lint(made.table, encoder=text_encoder())]  # fmt: skip
        faults = "\n".join(found) or "Nothing was found to be wrong with the captions."
        return io.NodeOutput(edited, preview, counted, faults, ui={"text": (preview,)})


def _captioner(model: str, clip: Any, settings: CaptionSettings) -> Captioner:
    if clip is not None:
        from ..comfy.wire_captioner import WireCaptioner

        return WireCaptioner(clip, settings)
    from ...core.captions.choosing import captioner
    from ...core.captions.vision_language import VisionLanguageModel

    chosen = captioner(model_place(model), settings)
    if isinstance(chosen, VisionLanguageModel):
        import comfy.model_management

        chosen.before_loading = comfy.model_management.unload_all_models
    return chosen


def model_place(name: str) -> str | Path:
    """Let names of models through; a path must lie in a folder that graphs may use."""
    import folder_paths

    from ...core.captions.choosing import SHORT_NAMES
    from ...core.hub import is_hub_name
    from ..ui.paths import allowed_roots, contained

    text = name.strip()
    models = Path(folder_paths.models_dir)
    for folder in _MODEL_FOLDERS:
        if text and (models / folder / text).exists():
            return contained(text, models / folder, allowed_roots())
    if text.lower() in SHORT_NAMES or is_hub_name(text):
        return text
    return contained(text, models, allowed_roots()) if text else text


def _summary(made: CaptionedSet, name: str, settings: CaptionSettings) -> str:
    texts = [one for one in made.made.values() if one.text]
    asked = sum(one.fresh for one in made.made.values())
    lines = [
        f"{how_many(len(texts), 'caption')} by {name}; it was asked about "
        f"{how_many(asked, 'image')}."
    ]
    if made.kept:
        lines.append(
            how_many(made.kept, "image kept its caption", "images kept their captions")
            + (" ('existing' replace or append changes that)." if settings.existing == "keep"
               else ".")
        )  # fmt: skip
    cut = sum(bool(one.remark) for one in texts)
    if cut:
        lines.append(
            f"{how_many(cut, 'caption has', 'captions have')} reached max_tokens before "
            f"{worded(cut, 'its', 'their')} end."
        )
    lines += [f"No caption: {path}: {why}" for path, why in list(made.failed.items())[:_SHOWN]]
    if len(made.failed) > _SHOWN:
        more = len(made.failed) - _SHOWN
        lines.append(f"{more:,} more {worded(more, 'has', 'have')} none.")
    return "\n".join(lines)
