"""BalancedSelect: the best subset under quotas, with its proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..ui.damages import says_damage
from ..ui.disk_state import always_answers
from ..ui.given import checks_inputs
from ..ui.libraries import missing_libraries
from ..ui.lines import lines_of
from ..ui.progress import NodeProgress
from ..ui.widgets import widget
from ..ui.wires import ImageSet, Selection, category, feature_store, node_id, searched_as
from .filters import what_thresholds_cost

_MOST_QUOTAS = 1000
REJECTED = "rejected.jpg"
"""In ComfyUI's output folder: the best of what was turned away, where nothing passed."""


class BalancedSelect(io.ComfyNode):
    """Selects the images of the greatest total quality under quotas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        from ...core.project_sections import DuplicatesSection, SelectionSection

        return io.Schema(
            node_id=node_id("BalancedSelect"),
            display_name="BalancedSelect",
            **searched_as(
                "select best images", "quota", "balance dataset", "subset", "deduplicate images",
            ),
            category=category("2 Curate"),
            description=(
                "Selects the subset of the greatest total quality under your quotas: a proven "
                "optimum, and never two near-duplicates. Quotas that cannot be met are relaxed, "
                "the last one first, and the summary says by how much and why."
            ),
            inputs=[
                ImageSet.Input("images", tooltip="From ClipCluster."),
                widget(SelectionSection, "total", max=1_000_000),
                io.String.Input(
                    "quotas", multiline=True,
                    default="kind=original:18,scenario:52\nseed=7\ncluster=8..10",
                    tooltip="One a line, the most important first. Any column: 'seed=7' (each "
                    "seed 7), 'cluster=8..10', 'kind=original:18,scenario:52', 'pose=frontal:50%'.",
                ),
                widget(DuplicatesSection, "threshold", "duplicates", min=0.5, step=0.005),
                widget(
                    DuplicatesSection, "copies", default=True, optional=True,
                    tooltip="Also find copies among collected images by their pixels: mirrored, "
                    "cropped a little, brighter, grey, marked. Generated images are never "
                    "compared.",
                ),
                widget(
                    SelectionSection, "decisions", default="", optional=True,
                    tooltip="File of decisions (keep, veto) that report.html has saved, in "
                    "ComfyUI's input or output folder; they come before every quota.",
                ),
            ],
            outputs=[
                ImageSet.Output(
                    display_name="images",
                    tooltip="Every image; those left out with the reason.",
                ),
                Selection.Output(
                    display_name="selection", tooltip="The proof, for DatasetExport.",
                ),
                io.String.Output(display_name="summary", tooltip="How well each quota was met."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images: Any = None) -> Any:
        """Refuse to be queued where a library is missing."""
        return missing_libraries(("cv2", "polars", "scipy")) or True

    @classmethod
    @always_answers
    def fingerprint_inputs(cls, decisions: str | None = None, **_: Any) -> Any:
        """Run again when the file of decisions is another."""
        from ...core.hashing import content_hash
        from ..ui.paths import readable_path

        if not (decisions or "").strip():
            return 0
        path = readable_path(decisions or "")
        return content_hash(path) if path.is_file() else 0

    @classmethod
    @checks_inputs
    @says_damage(2)
    def execute(
        cls,
        images: Any,
        total: int,
        quotas: str,
        duplicates: float,
        copies: bool = True,
        decisions: str = "",
    ) -> io.NodeOutput:
        """Select."""
        from ...core.analysis.copies import copy_pairs
        from ...core.analysis.duplicates import duplicate_pairs, find_duplicates
        from ...core.selection import Decisions, NoCandidatesError, Quota, select
        from ...core.selection import Selection as Chosen
        from ..ui.paths import readable_path

        decided = Decisions.read(readable_path(decisions)) if decisions.strip() else None
        stated = [Quota.parse(line) for line in lines_of("quotas", quotas, _MOST_QUOTAS)]
        pairs = duplicate_pairs(images, duplicates)
        if copies:
            with feature_store() as store:
                pairs = copy_pairs(images, store, progress=NodeProgress(), known=pairs)
        grouped = find_duplicates(images, pairs=pairs)
        try:
            made = select(grouped, total, stated, conflicts=pairs, decisions=decided)
        except NoCandidatesError:
            if "wave" not in images.table.columns:
                _explain(images)
                raise
            made = Chosen.nothing(grouped, total, stated)  # more may come
        lines = [*made.sentences(), *what_thresholds_cost(images, total)]
        return io.NodeOutput(made.images, made, "\n".join(lines))


def _explain(images: Any) -> None:
    """Raise what the thresholds cost, with a sheet of the best that they turned away."""
    import folder_paths

    from ...core.analysis.threshold_costs import costs_of
    from ...core.report.rejected import NothingPassesError, show_rejected

    costs = costs_of(images)
    if costs is not None:
        sheet = Path(folder_paths.get_output_directory()) / REJECTED
        show_rejected(images, costs, sheet)
        raise NothingPassesError(images, costs, sheet, "words")
