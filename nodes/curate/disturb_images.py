"""DisturbImages and JoinImageSets: disturbed copies beside images, and sets beside each other."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, node_id, searched_as

_SHEET = 100
_PLACES = ("first", "second", "third", "fourth")


class DisturbImages(io.ComfyNode):
    """Adds copies of images with a part hidden, blurred, grainy or compressed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.augmentation_section import AugmentationSection

        return io.Schema(
            node_id=node_id("DisturbImages"),
            display_name="Disturb Images",
            **searched_as(
                "augmentation", "occlusion", "blur", "noise", "jpeg compression", "degrade",
            ),
            category=category("2 Curate"),
            description=(
                "Adds disturbed copies of accepted images to a set: something in front of the "
                "face, blur, noise, compression. The images themselves stay as they are. Each copy "
                "says by which numbers it was disturbed, and comes again to the byte."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="Any set; copies are made of accepted images."),
                widget(
                    AugmentationSection, "disturbances", "kinds",
                    default="occlusion, blur, noise, compression",
                    tooltip="Divided by commas, each as often as the others: occlusion, blur, "
                    "noise, compression, or albumentations: and the name of one of its "
                    "transforms.",
                ),
                widget(AugmentationSection, "strength", step=0.05),
                widget(AugmentationSection, "seed"),
                io.Int.Input(
                    "count", default=0, min=0, max=1_000_000,
                    tooltip="How many copies; 0 makes one of each image. More than there are "
                    "images takes each several times, by another kind.",
                ),
                io.String.Input(
                    "folder", default="char1/disturbed",
                    tooltip="Where the copies go as PNG files, in ComfyUI's output folder.",
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images", tooltip="The images as they were, then the copies."
                ),
                io.Image.Output(display_name="sheet", tooltip="The first copies at a glance."),
                io.String.Output(
                    display_name="summary", tooltip="How many copies there are of what kind.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("polars", "cv2")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> Any:
        """Run again when a copy is gone or changed."""
        from ..ui.disk_state import output_fingerprint

        return output_fingerprint(folder)

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(
        cls, images: Any, kinds: str, strength: float, seed: int, count: int, folder: str
    ) -> io.NodeOutput:
        """Make the copies that are not there yet."""
        import polars as pl

        from ...core.augmentation.disturbing import DisturbanceWish, disturb_images
        from ..ui.disk_state import disk_state
        from ..ui.images import sheet_of
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress

        named = tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
        place = output_path(folder)
        wish = DisturbanceWish(named, strength, seed, count or None)
        made = disturb_images(images, place, wish, NodeProgress())
        told = "\n".join(made.notes[len(images.notes) :])
        copies = made.filter(pl.int_range(pl.len()) >= len(images))
        disk_state.record(place, copies.paths())
        sheet = sheet_of(copies if len(copies) else made, by="kind", limit=_SHEET)
        preview = {**ui.PreviewImage(sheet, cls=cls).as_dict(), "text": (told,)}
        return io.NodeOutput(made, sheet, told, ui=preview)


class JoinImageSets(io.ComfyNode):
    """Puts several sets of images of one subject together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("JoinImageSets"),
            display_name="Join Image Sets",
            **searched_as("merge image sets", "concatenate", "combine datasets", "real images"),
            category=category("2 Curate"),
            description=(
                "Puts several image sets together as one, such as selected photographs and "
                "selected variations of them. What was rejected, or not selected, stays so. For "
                "sets of several subjects take CompareSubjects."
            ),
            inputs=[
                ImageSet.Input("first", tooltip="Any image set."),
                ImageSet.Input("second", tooltip="Another one."),
                *(
                    ImageSet.Input(place, optional=True, tooltip="Another one.")
                    for place in _PLACES[2:]
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images", tooltip="All of them, in the order of the inputs."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, first: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("polars",)) or True

    @classmethod
    @checks_inputs
    def execute(
        cls, first: Any, second: Any, third: Any = None, fourth: Any = None
    ) -> io.NodeOutput:
        """Join them."""
        from ...core.portfolio.joining import joined_as_selected

        sets = [one for one in (first, second, third, fourth) if one is not None]
        return io.NodeOutput(joined_as_selected(sets))
