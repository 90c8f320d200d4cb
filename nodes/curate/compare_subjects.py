"""CompareSubjects: sets of several subjects beside each other, nobody taken for another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, node_id, searched_as

if TYPE_CHECKING:
    from ...core.imageset import ImageSet as Images

PLACES = ("first", "second", "third", "fourth", "fifth")


class CompareSubjects(io.ComfyNode):
    """Turns away images that resemble another subject more than their own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import PortfolioSection

        return io.Schema(
            node_id=node_id("CompareSubjects"),
            display_name="CompareSubjects",
            **searched_as(
                "several characters", "multiple subjects", "merge image sets", "join datasets",
                "face similarity",
            ),
            category=category("2 Curate"),
            description=(
                "Compares the faces of several subjects: each image with the centre of every "
                "subject's faces. One that is nearer to another subject than to its own is "
                "rejected. Gives each set back, all of them together, and the table."
            ),
            inputs=[
                ImageSet.Input("first", tooltip="Of one subject, from FaceValidate or later."),
                ImageSet.Input("second", tooltip="Of another subject."),
                widget(PortfolioSection, "margin", step=0.01),
                *(
                    ImageSet.Input(place, optional=True, tooltip="Of another subject.")
                    for place in PLACES[2:]
                ),
            ],
            outputs=[
                *(
                    ImageSet.Output(
                        display_name=place, tooltip=f"The {place} set, without who is taken for "
                        "another."
                    )
                    for place in PLACES
                ),
                ImageSet.Output(display_name="together", tooltip="All of them as one set."),
                io.String.Output(
                    display_name="table",
                    tooltip="How similar the images of each subject are to each subject, and how "
                    "many were turned away.",
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
        cls,
        first: Any,
        second: Any,
        margin: float,
        third: Any = None,
        fourth: Any = None,
        fifth: Any = None,
    ) -> io.NodeOutput:
        """Compare the sets."""
        from comfy_execution.graph_utils import ExecutionBlocker

        from ...core.analysis.confusion import confusion, identities_of, reject_confused
        from ...core.portfolio.joining import joined

        given = [first, second, third, fourth, fifth]
        sets = named([images for images in given if images is not None])
        everyone = joined(sets)
        identities = identities_of(everyone)
        before = confusion(everyone.accepted, identities, margin)
        parted = iter([reject_confused(images, identities, margin) for images in sets])
        outputs = [
            ExecutionBlocker(f"CompareSubjects has no {place} set: connect one, or take this away.")
            if images is None
            else next(parted)
            for place, images in zip(PLACES, given, strict=True)
        ]
        together = reject_confused(everyone, identities, margin)
        return io.NodeOutput(*outputs, together, before.markdown())


def named(sets: Sequence[Images]) -> list[Images]:
    """Return the sets with a subject each: images that have none are called by their place.

    Raises:
        SameSubjectError: Two of them are of one subject.
    """
    import polars as pl

    from ...core.portfolio.joining import SameSubjectError

    found: list[Images] = []
    owners: dict[str, int] = {}
    for number, images in enumerate(sets, 1):
        subject = pl.col("subject").fill_null(f"subject{number}")
        images = images.with_columns(subject.alias("subject"))
        for name in images.table["subject"].unique().sort():
            if name in owners:
                raise SameSubjectError(name, owners[name], number)
            owners[name] = number
        found.append(images)
    return found
