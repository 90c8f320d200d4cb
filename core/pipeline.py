"""A project from beginning to end: every stage in order, each continuing where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import project as project_file
from .counts import how_many
from .damages import note_damage
from .imageset import ImageSet
from .progress import Progress, silent
from .project import Project
from .project_checks import check_measuring, check_project
from .project_measuring import CROPS_FOLDER as CROPS_FOLDER
from .project_measuring import Validated as Validated
from .project_measuring import measured_of
from .project_measuring import unblemished as unblemished
from .project_measuring import validate as validate
from .project_parts import (
    STORE_FILE,
    backend_of,
    captioning_of,
    decisions_of,
    masks_of,
    plan_of,
    quotas_of,
    recipe_of,
    resolved,
    source_of,
    working,
)
from .project_training import draw_with, tell_of_training, train
from .project_waves import in_waves

if TYPE_CHECKING:
    from .analysis.embeddings import Embedder
    from .analysis.threshold_costs import ThresholdCosts
    from .dataset import Exported
    from .engines.work import Engine
    from .generation.backend import Backend
    from .selection import Selection
    from .training.job import LoraResult
    from .training.result import Callbacks

log = logging.getLogger(__name__)

RAW_FOLDER = "raw"
DATASET_FOLDER = "dataset"
TABLE_FILE = "images.parquet"
REJECTED_FILE = "rejected.jpg"
UNPACKED_FOLDER = "unpacked"


@dataclass(frozen=True)
class Outcome:
    """What a run made.

    Attributes:
        images: Every candidate, with what all stages found and why it was left out.
        selection: The chosen subset with its proof.
        exported: The dataset on disk.
        computed: How many measurements were made anew, by analyser; empty when all were known.
        lora: The LoRA that was trained on the dataset, where the project says so.
        samples: Images made with it, one a prompt.
        costs: What each threshold costs, where fewer images pass than were wanted.
        identity: Least similarity to the references, or to the set's own centre, that was asked
            for, by the project or by the pack; ``None`` where it was only reported.
        crops: How many images were cropped, how many not and why, a sentence each.
    """

    images: ImageSet
    selection: Selection
    exported: Exported
    computed: Mapping[str, int]
    lora: LoraResult | None = None
    samples: tuple[Path, ...] = ()
    costs: ThresholdCosts | None = None
    identity: float | None = None
    crops: tuple[str, ...] = ()


def run(
    project: Project,
    base: Path | str = ".",
    *,
    callbacks: Callbacks | None = None,
    on_notes: Callable[[Sequence[str]], None] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Run a project: generate (or list a folder), curate, select, export, train.

    What exists is not made again: images with the same request, measurements of the same pixels
    by the same model. A run that was killed continues, and ends with the same result.

    Args:
        project: What to do.
        base: The folder that the project's relative paths start from.
        callbacks: Who is told how the training goes.
        on_notes: Is told what is to be said of collected images, before they are measured.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    from .dataset.publish import check_place

    if project.portfolio is not None:
        raise project_file.ProjectFileError(
            "This project is a portfolio of several subjects. Make it with 'character-curator "
            "portfolio', or in Python with portfolio.make_portfolio."
        )
    if project.augmentation is not None:
        raise project_file.ProjectFileError(
            "This project augments real images. Make it with 'character-curator augment', or in "
            "Python with augmentation.make_augmentation."
        )
    output = resolved(base, project.project.output)
    check_place(output / DATASET_FOLDER)
    check_project(project, base)
    with working(project) as engine:
        if project.source is not None:
            images = source_images(project, base, progress=progress)
            if on_notes is not None:
                on_notes(images.notes)
        else:
            images = generate(project, base, progress=progress, engine=engine)
            if on_notes is not None and images.notes:
                on_notes(images.notes)
        outcome = curate(images, project, output, base=base, progress=progress, engine=engine)
    if project.training is None:
        return outcome
    lora = train(project, outcome.exported.folder, base, callbacks=callbacks, progress=progress)
    tell_of_training(outcome.exported.folder, lora)
    samples = draw_with(project, lora, progress=progress)
    return replace(outcome, lora=lora, samples=samples)


def generate(
    project: Project,
    base: Path | str = ".",
    *,
    shard: tuple[int, int] = (0, 1),
    backend: Backend | None = None,
    work: Path | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> ImageSet:
    """Make the raw images of a project that are not there yet; see ``generation.generate``.

    Where the project says ``waves``, they are made in waves, each measured before the next; see
    ``growth.waves``. The set's notes then say how that went.

    Args:
        project: With a plan.
        base: The folder that its relative paths start from.
        shard: Which part this process makes: (index, count).
        backend: The project's model, where it is loaded already.
        work: Folder of measurements, for waves; the output folder unless given.
        progress: Watches.
        engine: Where images are made; as the project says unless given.

    Raises:
        ProjectFileError: A part of the images is asked for, and the project says ``waves``.
    """
    from .generation.run import generate as generate_plan

    if project.augmentation is not None:
        raise project_file.ProjectFileError(
            "The variations of an augmentation are generated with the LoRA of its real images: "
            "'character-curator augment' trains that first, and then generates them."
        )
    output = resolved(base, project.project.output)
    if project.waves is not None and shard != (0, 1):
        raise project_file.ProjectFileError(
            "The images of this project are made in waves, each where those before fell short, "
            "so that no machine can make a part of them by itself. Take [waves] out, or run "
            "without --shard."
        )
    plan = plan_of(project)  # one that makes no sense is refused before models are loaded
    if project.waves is not None:
        check_measuring(project, base, work)
    with working(project, engine) as at_work:
        backend = backend or backend_of(project, engine=at_work)
        if project.waves is not None:
            raw = output / RAW_FOLDER
            return in_waves(project, backend, raw, work or output, base, progress, at_work)
        return generate_plan(
            plan,
            backend,
            output / RAW_FOLDER,
            batch_size=project.model.batch_size,
            shard=shard,
            progress=progress,
            engine=at_work,
        )


def curate(
    images: ImageSet,
    project: Project,
    output: Path,
    *,
    base: Path | str = ".",
    dataset: Path | None = None,
    separate: Callable[[ImageSet], ImageSet] | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Outcome:
    """Validate, score, embed, cluster, select and export an image set.

    Args:
        images: The candidates.
        project: Models, thresholds and quotas.
        output: Folder for measurements and the table of all candidates.
        base: The folder that relative paths of references start from.
        dataset: Folder of the dataset; ``output/dataset`` unless given.
        separate: Turns images of others away, whose faces have been validated.
        progress: Watches.
        engine: Where images are measured; as the project says unless given.

    Raises:
        NothingPassesError: No image passes; it says what each threshold costs.
        OutputError: The dataset's folder cannot be used, which is told before anything is measured.
    """
    from .analysis.measure import note_unreadable
    from .dataset.images import UnreadableSourcesError
    from .dataset.publish import check_place
    from .features import FeatureStore

    check_place(dataset or output / DATASET_FOLDER)
    known: set[str] = set()
    while True:
        try:
            return _curated(images, project, output, base, dataset, separate, progress, engine)
        except UnreadableSourcesError as error:
            # What measures images decodes some that what exports them cannot. Both agree from now
            # on, and the subset is chosen again among the others.
            if error.reasons.keys() <= known:
                raise
            known |= error.reasons.keys()
            with FeatureStore(output / STORE_FILE) as store:
                note_unreadable(images, store, error.reasons)
            note_damage(
                "chosen images", images.root, "left out, and the subset is chosen again",
                len(error.reasons),
            )  # fmt: skip
            log.warning(
                "%s damaged and left out, and the subset is chosen again: %s",
                how_many(len(error.reasons), "chosen image is", "chosen images are"),
                ", ".join(sorted(error.reasons)[:5]),
            )  # fmt: skip


def _curated(
    images: ImageSet,
    project: Project,
    output: Path,
    base: Path | str,
    dataset: Path | None,
    separate: Callable[[ImageSet], ImageSet] | None,
    progress: Progress,
    engine: Engine | None,
) -> Outcome:
    """Curate once; see :func:`curate`."""
    from .dataset import export

    found = choose(
        images, project, output, base=base, separate=separate, progress=progress, engine=engine
    )
    chosen = found.selection
    exported = export(
        found.images,
        dataset or output / DATASET_FOLDER,
        name=project.project.name,
        trigger=trigger_of(project),
        selection=chosen,
        recipe=recipe_of(project),
        models=found.models,
        masks=masks_of(project, base),
        minimums={} if found.identity is None else {"identity_similarity": found.identity},
        **project.dataset.model_dump(exclude={"trigger", "masks"}),
        progress=progress,
    )
    return Outcome(
        found.images,
        chosen,
        exported,
        found.computed,
        costs=found.costs,
        identity=found.identity,
        crops=found.crops,
    )


@dataclass(frozen=True)
class Chosen:
    """What a curation has chosen, before it is exported.

    Attributes:
        images: Every candidate, with what all stages found and why it was left out.
        selection: The chosen subset with its proof.
        computed: As of :class:`Outcome`.
        costs: As of :class:`Outcome`.
        identity: As of :class:`Outcome`.
        crops: As of :class:`Outcome`.
        embedder: The model that embeds images.
        models: Fingerprints of the models that measured the images.
    """

    images: ImageSet
    selection: Selection
    computed: Mapping[str, int]
    costs: ThresholdCosts | None
    identity: float | None
    crops: tuple[str, ...]
    embedder: Embedder
    models: Mapping[str, str]


def trigger_of(project: Project) -> str | Mapping[str, str] | None:
    """Return the trigger word of a project's dataset, or one a subject."""
    words = {subject.name: subject.trigger or subject.name for subject in project.subjects}
    return project.dataset.trigger or words or None


def choose(
    images: ImageSet,
    project: Project,
    output: Path,
    *,
    base: Path | str = ".",
    separate: Callable[[ImageSet], ImageSet] | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Chosen:
    """Validate, score, embed, cluster and select; nothing is exported. See :func:`curate`."""
    from .analysis.threshold_costs import threshold_costs
    from .features import FeatureStore
    from .report.rejected import NothingPassesError, show_rejected
    from .selection import select

    # Refused before the folder is measured.
    decisions = decisions_of(project, base)
    captioning = captioning_of(project, base)
    before = len(images.notes)
    with FeatureStore(output / STORE_FILE) as store:
        measured = measured_of(images, project, store, output, base, separate, progress, engine)
        computed = dict(store.computed)
    images, pairs, found = measured.images, measured.pairs, measured.found
    embedder, thresholds = found.embedder, found.thresholds
    costs = None
    if len(images.accepted) < project.selection.total:
        costs = threshold_costs(images, thresholds, project.quality.minimum)
        show_rejected(images, costs, output / REJECTED_FILE)
    # Before the selection, which may find nothing to select: the table says why.
    images.write(output / TABLE_FILE)
    if costs is not None and not len(images.accepted):
        raise NothingPassesError(images, costs, output / REJECTED_FILE)
    chosen = select(
        images, project.selection.total, quotas_of(project), conflicts=pairs, decisions=decisions
    )
    images = chosen.images
    if captioning is not None:
        with FeatureStore(output / STORE_FILE) as store:
            images = captioning(images, store, progress)
    images.write(output / TABLE_FILE)
    return Chosen(
        images,
        chosen,
        computed,
        costs,
        thresholds.identity,
        images.notes[before:],
        embedder,
        {"faces": found.analyser.backend.fingerprint, "clip": embedder.fingerprint},
    )


def source_images(
    project: Project, base: Path | str = ".", *, progress: Progress = silent
) -> ImageSet:
    """List the images that a project curates; those of zip files go into its output folder.

    The set's notes also say where the project's models do not fit the images.

    Args:
        project: With its ``source``.
        base: The folder that relative paths start from.
        progress: Watches.

    Raises:
        EmptyFolderError: There is no image.
        SourceError: A zip file or a single file cannot be used.
    """
    from .analysis.familiarity import unfamiliar

    given = project.source or ()
    sources = [given] if isinstance(given, str) else given
    unpacked = resolved(base, project.project.output) / UNPACKED_FOLDER
    images = ImageSet.from_folder(
        [source_of(base, source) for source in sources], unpacked=unpacked, progress=progress
    )
    note = unfamiliar(images, project.faces.pack, project.clip.model)
    return replace(images, notes=(*images.notes, note)) if note else images
