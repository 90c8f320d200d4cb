"""QualityScore: sharpness, contrast and the detector's confidence as one number."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ui.damages import says_damage
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as

AUTOMATIC = "automatic"


class QualityScore(io.ComfyNode):
    """Scores images and rejects those below a minimum."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.defaults import CALIBRATED, SEED_DOCUMENT
        from ...core.project_sections import BlemishesSection, QualitySection

        return io.Schema(
            node_id=node_id("QualityScore"),
            display_name="QualityScore",
            **searched_as("blur detection", "sharpness", "filter blurry", "image quality",
                          "watermark", "text detection", "letterbox", "collage"),
            category=category("2 Curate"),
            description=(
                "Scores each image between 0 and 1, of photographs by what the face's pixels show, "
                "else by the seed-document formula of sharpness, contrast and face confidence, "
                "and rejects those below the minimum. Where it is asked, images with bars at their "
                "edges, several images in one, and text or watermarks are left out before."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="From FaceValidate."),
                widget(
                    QualitySection, "minimum", step=0.01,
                    tooltip="Least quality that is kept. Moving it measures nothing again.",
                ),
                widget(
                    QualitySection, "formula", options=[AUTOMATIC, SEED_DOCUMENT, CALIBRATED],
                    default=AUTOMATIC, optional=True,
                    tooltip="calibrated is measured on the face and suits photographs; "
                    "seed-document is the published formula of the whole image; automatic takes "
                    "calibrated unless the faces were found by 'miniature'.",
                ),
                widget(
                    BlemishesSection, "bars", "max_bars", default=1.0, step=0.01, optional=True,
                    tooltip="Most area that bars of one color at the edges may take, such as 0.02; "
                    "1 looks for none. CropImages cuts them off instead.",
                ),
                widget(
                    BlemishesSection, "grids_from", default=1.0, step=0.01, optional=True,
                    tooltip="Leaves out several images in one: those that step along this share of "
                    "a straight line from edge to edge, such as 0.96; 1 looks for none.",
                ),
                widget(
                    BlemishesSection, "text", "max_text", default=1.0, step=0.005, optional=True,
                    tooltip="Most area that text and watermarks may take, such as 0.01; 1 looks "
                    "for none. Needs the models of the package rapidocr.",
                ),
            ],
            outputs=[
                ImageSet.Output(display_name="images", tooltip="With quality and its parts."),
                io.String.Output(display_name="summary", tooltip="How many are left, and why."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("cv2", "polars")) or True

    @classmethod
    @checks_inputs
    @says_damage(1)
    def execute(
        cls,
        images: Any,
        minimum: float,
        formula: str = AUTOMATIC,
        max_bars: float = 1.0,
        grids_from: float = 1.0,
        max_text: float = 1.0,
    ) -> io.NodeOutput:
        """Score the images."""
        from ...core.analysis.blemishes import BlemishLimits, reject_blemished
        from ...core.analysis.quality import score_quality
        from ...core.analysis.text_areas import TextFinder, reject_text
        from ..ui.progress import NodeProgress
        from .filters import outcome

        text = TextFinder() if max_text < 1 else None
        limits = BlemishLimits(
            max_bars if max_bars < 1 else None, grids_from if grids_from < 1 else None
        )
        with feature_store() as store:
            images = reject_blemished(images, store, limits, NodeProgress())
            if text is not None:
                images = reject_text(images, store, text, max_text, NodeProgress())
            scored = score_quality(
                images, store, minimum=minimum, progress=NodeProgress(),
                formula=None if formula == AUTOMATIC else formula,
            )  # fmt: skip
        return io.NodeOutput(scored, outcome(scored))
