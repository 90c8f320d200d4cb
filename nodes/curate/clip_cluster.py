"""ClipCluster: what images show, grouped by their CLIP embeddings."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers, states
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.widgets import widget
from ..ui.wires import ImageSet, category, feature_store, node_id, searched_as


class ClipCluster(io.ComfyNode):
    """Embeds images and groups them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import ClipSection, ClustersSection

        return io.Schema(
            node_id=node_id("ClipCluster"),
            display_name="ClipCluster",
            **searched_as("group images", "image similarity", "open_clip", "kmeans", "diversity"),
            category=category("2 Curate"),
            description=(
                "Embeds each accepted image with a CLIP model, groups the embeddings by KMeans, "
                "and names each group after what sets it apart: pose, framing, light."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="Usually from QualityScore."),
                widget(
                    ClipSection, "model",
                    tooltip="'miniature' (drawn portraits), an architecture of open_clip such as "
                    "ViT-B-32, or a folder with open_clip_config.json in ComfyUI's models folder.",
                ),
                widget(
                    ClipSection, "pretrained", optional=True,
                    tooltip="For an architecture: the tag of its weights, such as "
                    "laion2b_s34b_b79k, or a weights file in ComfyUI's models folder.",
                ),
                widget(ClustersSection, "count", "clusters", max=1000),
                widget(ClustersSection, "random_state", max=2**31 - 1, optional=True),
            ],
            outputs=[
                ImageSet.Output(display_name="images", tooltip="With embeddings and clusters."),
                io.String.Output(display_name="summary", tooltip="The groups and their sizes."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("cv2", "open_clip", "polars", "sklearn")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, model: str | None = None, pretrained: str = "", **_: Any) -> Any:
        """Run again when the model's files have been replaced."""
        return clip_state(model or "", pretrained)

    @classmethod
    @checks_inputs
    @says_damage(1)
    def execute(
        cls,
        images: Any,
        model: str,
        clusters: int,
        pretrained: str = "",
        random_state: int = 0,
    ) -> io.NodeOutput:
        """Embed and group the images."""
        from ...core.analysis.clusters import cluster
        from ...core.analysis.embed import embed
        from ...core.analysis.embeddings import Embedder
        from ...core.analysis.familiarity import unfamiliar
        from ..ui.progress import NodeProgress

        embedder = Embedder(clip_path(model) or model, clip_path(pretrained) or None)
        with feature_store() as store:
            embedded = embed(images, embedder, store, NodeProgress())
            grouped = cluster(embedded, clusters, random_state, embedder, store=store)
        note = unfamiliar(images, "", embedder.model, as_command=False)
        return io.NodeOutput(grouped, "\n".join([*([note] if note else []), _summary(grouped)]))


def clip_path(name: str) -> str:
    """Let names of open_clip through; a path must lie in a folder that graphs may use."""
    from pathlib import Path

    import folder_paths

    from ..ui.paths import allowed_roots, contained

    name = name.strip()
    text = name.removeprefix("local-dir:")
    models = Path(folder_paths.models_dir)
    is_path = text != name or any(mark in text for mark in ("/", "\\", "..")) or text[:1] == "~"
    if text.startswith("hf-hub:") or not (is_path or (models / text).exists()):
        return name
    return str(contained(text, models, allowed_roots())) if text else ""


def clip_state(model: str, pretrained: str | None = "") -> str:
    """Return what tells one state of a CLIP model's files from another.

    Args:
        model: As of :func:`clip_path`; what open_clip fetches is known by its name alone.
        pretrained: The tag or file of its weights.
    """
    from pathlib import Path

    from ...core.miniature import CLIP_PATH

    path = clip_path(model).removeprefix("local-dir:")
    places = [CLIP_PATH if path == "miniature" else Path(path), Path(clip_path(pretrained or ""))]
    return " ".join(states(place) for place in places if place != Path())


def _summary(images: Any) -> str:
    rows = images.table.drop_nulls("cluster").group_by("cluster", "cluster_name").len()
    lines = [f"{number}: {name} ({count})" for number, name, count in rows.sort("cluster").rows()]
    return "\n".join(lines)
