"""ContactSheet: a set at a glance, filtered by what became of its images."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...core.rejection_reasons import Rejection
from ..ui.given import checks_inputs
from ..ui.wires import ImageSet, category, node_id, searched_as

_FILTERS = [
    "selected", "accepted", "rejected", *(f"rejected: {reason}" for reason in Rejection), "all",
]  # fmt: skip
_GROUPS = ["auto", "cluster", "seed", "kind", "category", "pose", "framing", "rejection"]


class ContactSheet(io.ComfyNode):
    """Draws the images of a set under headings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id=node_id("ContactSheet"),
            display_name="Contact Sheet",
            **searched_as("image grid", "overview", "show rejected", "gallery"),
            category=category("2 Curate"),
            description="Shows the selected, the accepted or the rejected images of a set.",
            inputs=[
                ImageSet.Input("images", tooltip="Any image set."),
                io.Combo.Input(
                    "show", options=_FILTERS, default="selected", tooltip="Which images.",
                ),
                io.Combo.Input(
                    "group_by", options=_GROUPS, default="auto",
                    tooltip="Headings; auto takes clusters, or the reasons of rejected images.",
                ),
                io.Int.Input("limit", default=200, min=1, max=5000, tooltip="The most drawn."),
                io.Int.Input("columns", default=10, min=1, max=50, tooltip="Images a line."),
                io.Int.Input(
                    "side", default=128, min=32, max=1024, tooltip="Side of an image in pixels.",
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The drawn sheet.")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    @checks_inputs
    def execute(
        cls, images: Any, show: str, group_by: str, limit: int, columns: int, side: int
    ) -> io.NodeOutput:
        """Draw the sheet."""
        import polars as pl

        from ..ui.images import sheet_of
        from .filters import chosen

        rows = chosen(images, show)
        column = group_by
        if group_by == "auto":
            groups = {"selected": "selected", "rejected": "rejected"}
            column = groups.get(show.partition(":")[0], "cluster")
        if column not in ("selected", "rejected", *rows.table.columns):
            rows = rows.with_columns(pl.lit(show).alias(column))
        sheet = sheet_of(rows, by=column, limit=limit, columns=columns, side=side)
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet, cls=cls))
