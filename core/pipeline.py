"""A project from beginning to end: every stage in order, each continuing where it was."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import project as project_file
from .imageset import ImageSet
from .plan import Plan
from .progress import Progress, silent
from .project import Project

if TYPE_CHECKING:
    from .dataset import Exported
    from .generation.backend import Backend
    from .selection import Quota, Selection

log = logging.getLogger(__name__)

RAW_FOLDER = "raw"
DATASET_FOLDER = "dataset"
STORE_FILE = "features.sqlite"
TABLE_FILE = "images.parquet"


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Attributes:
        images: Every candidate, with what all stages found and why it was left out.
        selection: The chosen subset with its proof.
        exported: The data set on disk.
        computed: How many measurements were made anew, by analyser; empty when all were known.
    """

    images: ImageSet
    selection: Selection
    exported: Exported
    computed: Mapping[str, int]


def run(project: Project, base: Path | str = ".", *, progress: Progress = silent) -> Outcome:
    """Run a project: generate (or list a folder), curate, select, export.

    What exists is not made again: pictures with the same request, measurements of the same pixels
    by the same model. A run that was killed continues, and ends with the same result.

    Args:
        project: What to do.
        base: The folder that the project's relative paths start from.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    output = _resolve(base, project.project.output)
    if project.source is not None:
        images = ImageSet.from_folder(_resolve(base, project.source), progress=progress)
    else:
        images = generate(project, base, progress=progress)
    return curate(images, project, output, base=base, progress=progress)


def plan_of(project: Project) -> Plan:
    """Return the plan that a project's sections describe.

    Raises:
        PlanError: The plan is impossible (a name or number twice, an unknown placeholder).
        ProjectFileError: The project has no plan.
    """
    if project.plan is None:
        raise project_file.ProjectFileError(
            "The project generates nothing: it has no [plan]. Add one, or use 'curate' on a folder."
        )
    parts = {
        name: [entry.model_dump() for entry in getattr(project, name)]
        for name in ("subjects", "scenarios", "originals")
    }
    return Plan.from_mapping({**project.plan.model_dump(), **parts})


def backend_of(project: Project) -> Backend:
    """Return the model that a project generates with; its weights load when they are needed."""
    from .generation.diffusers_backend import DiffusersBackend

    model = project.model
    return DiffusersBackend(
        model.path,
        scheduler=model.scheduler,
        steps=model.steps,
        guidance=model.guidance,
        width=model.width,
        height=model.height,
        dtype=model.dtype,
        device=model.device,
    )


def generate(
    project: Project,
    base: Path | str = ".",
    *,
    shard: tuple[int, int] = (0, 1),
    progress: Progress = silent,
) -> ImageSet:
    """Make the raw pictures of a project that are not there yet; see ``generation.generate``."""
    from .generation.run import generate as generate_plan

    return generate_plan(
        plan_of(project),
        backend_of(project),
        _resolve(base, project.project.output) / RAW_FOLDER,
        batch_size=project.model.batch_size,
        shard=shard,
        progress=progress,
    )


def curate(
    images: ImageSet,
    project: Project,
    output: Path,
    *,
    base: Path | str = ".",
    dataset: Path | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Validate, score, embed, cluster, select and export an image set.

    Args:
        images: The candidates.
        project: Models, thresholds and quotas.
        output: Folder for measurements and the table of all candidates.
        base: The folder that relative paths of references start from.
        dataset: Folder of the data set; ``output/dataset`` unless given.
        progress: Watches.
    """
    from .analysis import clusters, duplicates, embeddings, faces, measure, quality
    from .analysis.face_analyser import FaceAnalyser
    from .dataset import export
    from .features import FeatureStore
    from .selection import select

    thresholds = faces.FaceThresholds(
        confidence=project.faces.minimum_confidence,
        share=project.faces.minimum_share,
        side=project.faces.minimum_side,
        identity=project.faces.minimum_identity,
    )
    minimum = project.quality.minimum
    references = [_resolve(base, path) for path in project.faces.references]
    analyser = FaceAnalyser(project.faces.pack, det_size=project.faces.detection_size)
    embedder = embeddings.Embedder(project.clip.model, project.clip.pretrained or None)
    with FeatureStore(output / STORE_FILE) as store:
        images = measure.measure(
            images,
            analyser,
            embedder,
            store,
            thresholds=thresholds,
            minimum_quality=minimum,
            progress=progress,
        )
        images = faces.validate_faces(images, analyser, store, thresholds, references, progress)
        images = quality.score_quality(images, store, minimum=minimum, progress=progress)
        images = embeddings.embed(images, embedder, store, progress)
        computed = dict(store.computed)
        grouping = project.clusters
        images = clusters.cluster(
            images, grouping.count, grouping.random_state, embedder, store=store
        )
    pairs = duplicates.duplicate_pairs(images, project.duplicates.threshold)
    images = duplicates.find_duplicates(images, pairs=pairs)
    # Before the selection, which may find nothing to select: the table says why.
    images.write(output / TABLE_FILE)
    chosen = select(images, project.selection.total, quotas_of(project), conflicts=pairs)
    images = chosen.images
    images.write(output / TABLE_FILE)
    exported = export(
        images,
        dataset or output / DATASET_FOLDER,
        name=project.project.name,
        trigger={subject.name: subject.trigger or subject.name for subject in project.subjects}
        or None,
        selection=chosen,
        recipe=project.model_dump(mode="json", exclude_none=True),
        **project.dataset.model_dump(),
        progress=progress,
    )
    return Outcome(images, chosen, exported, computed)


def quotas_of(project: Project) -> list[Quota]:
    """Return the project's quotas, the most important first."""
    from .selection import Quota

    return [Quota.parse(text) for text in project.selection.quotas]


def with_output(project: Project, output: Path) -> Project:
    """Return the project with its results going elsewhere."""
    section = project.project.model_copy(update={"output": str(output)})
    return project.model_copy(update={"project": section})


def _resolve(base: Path | str, path: str) -> Path:
    return Path(base).expanduser() / Path(path).expanduser()
