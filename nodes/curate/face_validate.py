"""FaceValidate: exactly one face, certain, large enough, and of the right person."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers, states
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as
from .face_wires import faces_on_wires, wire_inputs

LIBRARIES = ("cv2", "insightface", "onnxruntime", "polars")
AUTOMATIC = "automatic"
CHOICES = ("reject", "largest", "reference")
BUILT_IN = ("dlib", "dlib-cnn", "miniature")


class FaceValidate(io.ComfyNode):
    """Looks for faces, and rejects images without exactly one valid face."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import FacesSection

        return io.Schema(
            node_id=node_id("FaceValidate"),
            display_name="FaceValidate",
            **searched_as(
                "face detection", "insightface", "filter faces", "one person", "face similarity",
            ),
            category=category("2 Curate"),
            description=(
                "Looks for faces and rejects images with no face, several faces, an uncertain "
                "or a small one, or the face of someone else. Rejected images stay in the set "
                "with their reason. What was measured once is not measured again."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="The candidates."),
                widget(
                    FacesSection, "pack",
                    tooltip="'miniature' (drawn portraits), dlib or dlib-cnn (public domain; with "
                    "the packages dlib-bin and face-recognition-models), anime (drawn faces, and "
                    "CCIP; their files in a folder), the name of an insightface pack (buffalo_l, "
                    "for non-commercial research only), or a folder "
                    "of ONNX files (SCRFD and ArcFace, or OpenCV's YuNet and SFace) in ComfyUI's "
                    "models folder, such as insightface/models/mine.",
                ),
                widget(FacesSection, "minimum_confidence", step=0.01),
                widget(FacesSection, "minimum_share", step=0.005),
                widget(FacesSection, "minimum_side", max=4096.0, step=1.0),
                widget(
                    FacesSection, "minimum_identity", default=-1.0, step=0.01,
                    tooltip="Least cosine similarity to the person; -1 takes the pack's own "
                    "where references are connected, and rejects nobody elsewhere and with "
                    "'miniature'. Without references the person is the centre of the set itself.",
                ),
                widget(
                    FacesSection, "detection_size", default=0, min=0, max=4096, step=32,
                    optional=True,
                    tooltip="Side that images are fitted into for detection; 0 takes what suits "
                    "the pack.",
                ),
                io.Image.Input(
                    "references", optional=True,
                    tooltip="Images of the person, one face each.",
                ),
                widget(
                    FacesSection, "choice", options=[AUTOMATIC, *CHOICES], default=AUTOMATIC,
                    optional=True,
                    tooltip="Of several faces: reject leaves the image out, largest takes the "
                    "largest, reference the one of the references; automatic takes reference "
                    "where references are connected and the pack is for photographs.",
                ),
                io.Combo.Input(
                    "confidence", options=["calibrated", "detector"], default="calibrated",
                    optional=True,
                    tooltip="calibrated means the same with every pack; detector is the score "
                    "itself, as the seed-document recipe takes it.",
                ),
                *wire_inputs(
                    "Faces that another node has found in the accepted images, as Image "
                    "Set to Images gives them: boxes, face landmarks, or SEGS of one image. They "
                    "count as certain; the pack looks closer at each, and tells who it is.",
                    "The same as masks, one an image: each patch is a face.",
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images",
                    tooltip="With faces, pose, framing, identity and rejections.",
                ),
                io.String.Output(display_name="summary", tooltip="How many are left, and why."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(LIBRARIES) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, pack: str | None = None, **_: Any) -> Any:
        """Run again when the pack has been replaced."""
        return states(pack_files(pack or ""))

    @classmethod
    @checks_inputs
    @says_damage(1)
    def execute(
        cls,
        images: Any,
        pack: str,
        minimum_confidence: float,
        minimum_share: float,
        minimum_side: float,
        minimum_identity: float,
        detection_size: int = 0,
        references: Any = None,
        choice: str = AUTOMATIC,
        confidence: str = "calibrated",
        boxes: Any = None,
        masks: Any = None,
    ) -> io.NodeOutput:
        """Validate the faces."""
        from ...core.analysis.face_analyser import FaceAnalyser
        from ...core.analysis.face_validation import FaceThresholds, validate_faces
        from ...core.analysis.given_faces import with_given
        from ..ui.progress import NodeProgress
        from .filters import outcome

        thresholds = FaceThresholds(
            confidence=minimum_confidence,
            share=minimum_share,
            side=minimum_side,
            identity=minimum_identity if minimum_identity > -1 else None,
            choice=None if choice == AUTOMATIC else choice,  # type: ignore[arg-type]
            raw=confidence == "detector" or boxes is not None or masks is not None,
        )
        analyser = FaceAnalyser(pack_path(pack), det_size=detection_size or None)
        paths = [] if references is None else reference_files(references)
        with feature_store() as store:
            if boxes is not None or masks is not None:
                given = faces_on_wires(images, analyser.backend.layout, boxes, masks)
                analyser = with_given(
                    images, store, analyser.pack, given, analyser.det_size, NodeProgress()
                )
            found = validate_faces(images, analyser, store, thresholds, paths, NodeProgress())
        said = [outcome(found), *found.notes[len(images.notes) :]]
        return io.NodeOutput(found, "\n".join(said))


def pack_path(name: str) -> str:
    """Resolve a pack: a bare name stays one, unless the models folder has such a folder."""
    import folder_paths

    from ..ui.paths import allowed_roots, contained

    name = name.strip()
    if name in BUILT_IN:
        return name
    models = Path(folder_paths.models_dir)
    if name.replace("_", "").replace("-", "").isalnum():
        own = models / "insightface" / "models" / name
        return str(own) if own.is_dir() else name
    return str(contained(name, models, allowed_roots()))


def pack_files(name: str) -> Path | None:
    """Return where the files of a pack lie; None of one that is not there yet, or of no folder."""
    from ...core.analysis.face_packs import packs_folder
    from ...core.miniature import FACE_PACK_PATH

    if not name.strip():
        return None
    pack = pack_path(name)
    if pack == "miniature":
        return FACE_PACK_PATH
    if pack.startswith("dlib"):
        found = find_spec("face_recognition_models")
        return Path(found.origin).parent if found is not None and found.origin else None
    return next((p for p in (Path(pack), packs_folder() / pack) if p.is_dir()), None)


def reference_files(references: Any) -> list[Path]:
    """Write reference images to the temp folder, named by their content."""
    import folder_paths
    from PIL import Image

    from ...core import atomic
    from ..ui.images import to_bytes

    folder = Path(folder_paths.get_temp_directory())
    paths = []
    for pixels in to_bytes(references):
        path = folder / f"reference_{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}.png"
        buffer = BytesIO()
        Image.fromarray(pixels[..., :3]).save(buffer, "PNG")
        atomic.write_bytes(path, buffer.getvalue())
        paths.append(path)
    return paths
