"""CropImages: each image becomes the part of it that shows the person in a framing."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers, states
from ..ui.given import InputsError, checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as
from .face_validate import AUTOMATIC, CHOICES, LIBRARIES, pack_files, pack_path, reference_files
from .face_wires import faces_on_wires, wire_inputs

UNCROPPED = "uncropped"
_SHEET = 100


class CropImages(io.ComfyNode):
    """Crops every image around the face of its person, never through the head."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.options import option
        from ...core.project_sections import BlemishesSection, CropSection, FacesSection

        return io.Schema(
            node_id=node_id("CropImages"),
            display_name="Crop Images",
            **searched_as(
                "crop face", "crop person", "face crop", "portrait crop", "aspect ratio",
            ),
            category=category("2 Curate"),
            description=(
                "Crops every image around the person: as a close-up, a bust, a half or a full "
                "body, at an aspect ratio, and never through the head. Put it before FaceValidate, "
                "so that everything is measured on the crops. Images that show too little for "
                "their crop stay whole, or are rejected with the reason."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="The candidates, from Load Image Set."),
                widget(
                    CropSection, "framing", default="bust",
                    options=[*option(CropSection, "framing").choices, UNCROPPED],
                    tooltip="What of the person a crop shows, always with the whole head; "
                    "'uncropped' only cuts bars off, and looks for no face.",
                ),
                widget(
                    CropSection, "aspect", default="",
                    tooltip="Width over height of the crops, such as 4:5 or 832:1216; empty takes "
                    "what suits the framing (1:1, 4:5, 2:3, 1:2).",
                ),
                widget(
                    FacesSection, "pack",
                    tooltip="As in FaceValidate, and best the same.",
                ),
                io.String.Input(
                    "folder", default="char1/crops",
                    tooltip="Where the crops go as PNG files, in ComfyUI's output folder.",
                ),
                widget(
                    CropSection, "impossible", default="whole", optional=True,
                    tooltip="Where an image shows too little for its crop: whole keeps the image "
                    "as it is, reject leaves it out.",
                ),
                widget(
                    CropSection, "minimum_side", default=0, min=0, max=8192, step=64,
                    optional=True,
                    tooltip="Least shorter side of a crop in pixels; 0 takes any.",
                ),
                widget(CropSection, "upscale", default=False, optional=True),
                widget(
                    FacesSection, "choice", options=[AUTOMATIC, *CHOICES], default=AUTOMATIC,
                    optional=True,
                    tooltip="Of several faces: reject crops around none, largest takes the "
                    "largest, reference the one of the references; automatic takes reference "
                    "where references are connected and the pack is for photographs.",
                ),
                widget(FacesSection, "minimum_confidence", step=0.01, optional=True),
                io.Image.Input(
                    "references", optional=True,
                    tooltip="Images of the person, one face each; others are then not cropped.",
                ),
                widget(
                    BlemishesSection, "bars", "cut_bars", default=1.0, step=0.01, optional=True,
                    tooltip="Cuts bars of one color off the edges before, where they take more "
                    "than this share of the image, such as 0.02; 1 cuts none.",
                ),
                *wire_inputs(
                    "Faces that another node has found in the accepted images, as Image Set to "
                    "Images gives them, in place of the pack's own: boxes, face landmarks, or "
                    "SEGS of one image. Around heads crops get more room than around faces.",
                    "The same as masks, one an image: each patch is a face.",
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images",
                    tooltip="With the crops in the place of their images, and where they are from.",
                ),
                io.Image.Output(display_name="sheet", tooltip="The first crops at a glance."),
                io.String.Output(
                    display_name="summary", tooltip="How many were cropped, how many not and why.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(LIBRARIES) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(
        cls, folder: str | None = None, pack: str | None = None, **_: Any
    ) -> Any:
        """Run again when a crop is gone or changed, or the pack has been replaced."""
        from ..ui.disk_state import output_fingerprint

        return [output_fingerprint(folder), states(pack_files(pack or ""))]

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(
        cls,
        images: Any,
        framing: Any,
        aspect: str,
        pack: str,
        folder: str,
        impossible: str = "whole",
        minimum_side: int = 0,
        upscale: bool = False,
        choice: str = AUTOMATIC,
        minimum_confidence: float = 0.85,
        references: Any = None,
        cut_bars: float = 1.0,
        boxes: Any = None,
        masks: Any = None,
    ) -> io.NodeOutput:
        """Crop the images."""
        from ...core.analysis.bar_crops import cut_bars as without_bars
        from ...core.analysis.cropping import CropWish, crop_images
        from ...core.analysis.face_analyser import FaceAnalyser
        from ...core.analysis.face_validation import FaceThresholds
        from ...core.analysis.given_faces import with_given
        from ..ui.disk_state import disk_state
        from ..ui.images import sheet_of
        from ..ui.paths import output_path
        from ..ui.progress import NodeProgress

        if upscale and not minimum_side:
            raise InputsError("'upscale' needs 'minimum_side': to what the crops are enlarged.")
        told_faces = boxes is not None or masks is not None
        if told_faces and (cut_bars < 1 or framing == UNCROPPED):
            raise InputsError(
                "'boxes' and 'masks' are of whole images, and say where to crop. Cut bars in a "
                "CropImages before, and find the faces in what that one gives."
            )
        place = output_path(folder)
        before = len(images.notes)
        with feature_store() as store:
            made = images
            if cut_bars < 1:
                made = without_bars(made, store, place, cut_bars, NodeProgress())
            if framing != UNCROPPED:
                wish = CropWish(
                    framing,
                    aspect.strip() or None,
                    minimum_side or None,
                    upscale=upscale,
                    reject=impossible == "reject",
                )
                limits = FaceThresholds(
                    confidence=minimum_confidence,
                    choice=None if choice == AUTOMATIC else choice,  # type: ignore[arg-type]
                    raw=told_faces,
                )
                analyser = FaceAnalyser(pack_path(pack))
                if told_faces:
                    given = faces_on_wires(images, analyser.backend.layout, boxes, masks)
                    analyser = with_given(
                        images, store, analyser.pack, given, analyser.det_size, NodeProgress()
                    )
                made = crop_images(
                    made,
                    analyser,
                    store,
                    place,
                    wish,
                    thresholds=limits,
                    references=[] if references is None else reference_files(references),
                    progress=NodeProgress(),
                )
        table = made.table
        cut = "crop_box" in table.columns
        boxes = table["crop_box"].is_not_null() if cut else table["path"].is_null()
        disk_state.record(place, made.filter(boxes).paths())
        told = "\n".join(made.notes[before:]) or "Nothing was cut."
        shown = made.filter(boxes) if boxes.any() else made
        sheet = sheet_of(shown, by="kind", limit=_SHEET)
        preview = {**ui.PreviewImage(sheet, cls=cls).as_dict(), "text": (told,)}
        return io.NodeOutput(made, sheet, told, ui=preview)
