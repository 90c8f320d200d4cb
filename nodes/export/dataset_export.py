"""DatasetExport and LoadDataset: one folder that every trainer reads, and back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...core.counts import how_many
from ..curate.filters import what_thresholds_cost
from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import Dataset, ImageSet, Selection, category, node_id, searched_as
from ..ui.wires import Plan as PlanWire
from .damaged_images import written

NO_MASKS = "none"


class DatasetExport(io.ComfyNode):
    """Writes the selected images as a dataset."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.defaults import MASK_KINDS
        from ...core.project_sections import DatasetSection

        return io.Schema(
            node_id=node_id("DatasetExport"),
            display_name="DatasetExport",
            **searched_as(
                "export dataset", "save dataset", "kohya dataset", "captions", "training set",
            ),
            category=category("3 Dataset"),
            description=(
                "Writes the selected images with captions and metadata into one folder that "
                "kohya sd-scripts, OneTrainer, ai-toolkit and Hugging Face datasets read, with a "
                "card, a report and the reasons of every image left out. An earlier version is "
                "kept until the new one is whole."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="From BalancedSelect."),
                Selection.Input(
                    "selection", optional=True,
                    tooltip="From BalancedSelect: puts quotas and proof into card and report.",
                ),
                PlanWire.Input(
                    "plan", optional=True, tooltip="Its subjects' trigger words are used.",
                ),
                io.String.Input(
                    "folder", default="char1/dataset",
                    tooltip="The dataset's folder, in ComfyUI's output folder.",
                ),
                io.String.Input("name", default="char1", tooltip="Its name, for people."),
                io.String.Input(
                    "trigger", default="",
                    tooltip="The trigger word; empty takes the plan's, or the subject's name.",
                ),
                widget(
                    DatasetSection, "captions",
                    tooltip="'trigger + what varies', 'trigger + prompt', 'trigger + caption', "
                    "'prompt', 'trigger', or a template such as '{caption}' or 'photo of "
                    "{trigger}, {pose}'.",
                ),
                widget(DatasetSection, "license", optional=True),
                widget(
                    DatasetSection, "resolution", default=0, min=0, max=4096, step=64,
                    optional=True,
                    tooltip="What dataset.toml tells trainers; 0 takes the images' own.",
                ),
                widget(DatasetSection, "repeats", max=1000, optional=True),
                widget(
                    DatasetSection, "layout", default="flat", optional=True,
                    tooltip="flat puts all images beside each other; kohya into folders of "
                    "repeats, trigger and class word, such as '10_char1 woman'.",
                ),
                widget(
                    DatasetSection, "background", default="white", optional=True,
                    tooltip="What transparent pixels show: a color's name or #rrggbb.",
                ),
                widget(
                    DatasetSection, "alpha", default="background", optional=True,
                    tooltip="background stores no transparency; mask keeps it as the mask of the "
                    "loss, with alpha_mask in dataset.toml.",
                ),
                widget(
                    DatasetSection, "max_side", default=0, min=0, max=16384, step=64, optional=True,
                    tooltip="Images with a longer side, in pixels, are scaled down to it; 0 keeps "
                    "them as they are.",
                ),
                widget(DatasetSection, "keep_formats", default=False, optional=True),
                io.Mask.Input(
                    "masks", optional=True,
                    tooltip="What the loss shall count in each selected image, in their order: "
                    "connect Image Set to Images (count as many as are selected) to BiRefNet, SAM "
                    "or any other node that gives a MASK.",
                ),
                io.Combo.Input(
                    "mask_source", options=[NO_MASKS, *MASK_KINDS], default=NO_MASKS, optional=True,
                    tooltip="Masks without a wire: face or head as measured, person or foreground "
                    "by rembg, alpha of transparent images, beside for masks that lie beside the "
                    "images (NAME-masklabel.png).",
                ),
                widget(
                    DatasetSection, "mask_layout", default="kohya", optional=True,
                    tooltip="Where masks lie: kohya masks/NAME.png, onetrainer "
                    "NAME-masklabel.png, ai-toolkit _controls/NAME.png.",
                ),
            ],
            outputs=[
                Dataset.Output(display_name="dataset", tooltip="For trainers and LoadDataset."),
                io.String.Output(display_name="path", tooltip="The folder."),
                io.String.Output(display_name="summary", tooltip="What was written."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("polars", "tomlkit", "yaml")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when the dataset is gone or changed."""
        from ..ui.disk_state import output_fingerprint

        return output_fingerprint(folder)

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(
        cls,
        images: Any,
        folder: str,
        name: str,
        trigger: str,
        captions: str,
        selection: Any = None,
        plan: Any = None,
        license: str = "other",
        resolution: int = 0,
        repeats: int = 1,
        layout: str = "flat",
        background: str = "white",
        alpha: str = "background",
        max_side: int = 0,
        keep_formats: bool = False,
        masks: Any = None,
        mask_source: str = NO_MASKS,
        mask_layout: str = "kohya",
    ) -> io.NodeOutput:
        """Write the dataset."""
        from ...core.dataset import export
        from ...core.dataset.sidecars import METADATA_IN_COMFYUI
        from ..ui.disk_state import disk_state
        from ..ui.paths import datasets_folders, output_path
        from ..ui.progress import NodeProgress

        place = output_path(folder)
        shared = any(place.is_relative_to(root.resolve()) for root in datasets_folders())

        words: Any = trigger.strip() or None
        if words is None and plan is not None:
            words = {subject.name: subject.trigger or subject.name for subject in plan.subjects}

        def write(images: Any, selection: Any) -> Any:
            return export(
                images,
                place,
                name=name,
                trigger=words,
                captions=captions,
                selection=selection,
                recipe=None if plan is None else {"plan": plan.as_mapping()},
                license=license,
                resolution=resolution or None,
                repeats=repeats,
                metadata_name=METADATA_IN_COMFYUI if shared else None,
                layout=layout,
                background=background,
                alpha=alpha,
                max_side=max_side or None,
                keep_formats=keep_formats,
                masks=_masks(masks, mask_source, mask_layout),
                progress=NodeProgress(),
            )

        made, chosen_again = written(write, images, selection, redo=masks is None)
        files = [path for path in made.folder.rglob("*") if path.is_file()]
        disk_state.record(made.folder, files)
        state = f"version {made.version}{', unchanged' if made.unchanged else ''}"
        candidates = how_many(made.candidates, "image")
        summary = f"{made.images:,} of {candidates} in {made.folder} ({state})"
        if made.masks_in_words:
            summary += f". {made.masks_in_words}"
        fewer = [] if selection is None else what_thresholds_cost(images, selection.total)
        summary = "\n".join((summary, *chosen_again, *made.notes, *fewer, *images.notes))
        return io.NodeOutput(made.folder, str(made.folder), summary, ui={"text": (summary,)})


def _masks(masks: Any, source: str, layout: str) -> Any:
    """Return which masks are wanted; None where none are."""
    from ...core.dataset.masks import MaskWish
    from ..ui.images import to_bytes

    if masks is not None and source != NO_MASKS:
        raise InputsError("Connect 'masks' or choose a 'mask_source', not both.")
    if masks is not None:
        return MaskWish(layout=layout, given=list(to_bytes(masks)), covering=True)
    return None if source == NO_MASKS else MaskWish(source, layout)


class LoadDataset(io.ComfyNode):
    """Reads an exported dataset."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("LoadDataset"),
            display_name="Load Dataset",
            **searched_as("load dataset", "import dataset", "training data"),
            category=category("3 Dataset"),
            description="Reads a dataset that DatasetExport wrote, with captions and metadata.",
            inputs=[
                io.String.Input(
                    "folder", default="char1/dataset",
                    tooltip="A folder in ComfyUI's input folder, or else in its output folder.",
                ),
                io.Float.Input(
                    "minimum_quality", default=0.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Leave out what scored less.",
                ),
            ],
            outputs=[
                Dataset.Output(display_name="dataset", tooltip="For trainers."),
                ImageSet.Output(display_name="images", tooltip="A row an image."),
            ],
        )  # fmt: skip

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when the dataset has changed."""
        from ..ui.disk_state import listing
        from ..ui.paths import readable_path

        return str(listing(readable_path(folder))) if folder else ""

    @classmethod
    @checks_inputs
    @says_damage()
    def execute(cls, folder: str, minimum_quality: float) -> io.NodeOutput:
        """Read the dataset."""
        from ...core.dataset.curated import CuratedDataset
        from ...core.imageset import SCHEMA
        from ...core.imageset import ImageSet as Set
        from ..ui.paths import readable_path

        place = readable_path(folder)
        dataset = CuratedDataset(place)
        rows = []
        for entry in dataset.filter_by_quality(minimum_quality):
            values = entry["metadata"]
            row = {key: value for key, value in values.items() if key in SCHEMA}
            row.pop("generation", None)
            rows.append(
                row
                | {
                    "path": entry["filename"],
                    "kind": values.get("type"),
                    "quality": values.get("quality_score"),
                    "cluster": values.get("cluster"),
                    "cluster_name": values.get("cluster_name"),
                }
            )
        return io.NodeOutput(place, Set.from_rows(rows, place))
