"""Make an augmentation: real images, a LoRA of them, variations with it, and all in one dataset.

Each step finds what is there and goes on: images with the same request, measurements of the same
pixels, a training that has ended, disturbed copies that are whole. The real images are only read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .. import pipeline
from ..augmentation_section import AugmentationSection
from ..counts import how_many, worded
from ..dataset.exported import Exported
from ..dataset.exporting import export, selected_mask
from ..errors import CuratorError
from ..features import FeatureStore
from ..imageset import ImageSet
from ..portfolio.joining import joined
from ..portfolio.times import Times
from ..progress import Progress, silent
from ..project import Project, ProjectFileError
from ..project_checks import check_project
from ..project_parts import STORE_FILE, backend_of, masks_of, plan_of, recipe_of, resolved, working
from ..project_sections import SubjectSection
from ..project_training import tell_of_training, train, trained_base
from ..rejection_reasons import Rejection
from ..variations import AXES, variations_of
from .disturbing import DisturbanceWish, disturb_images
from .records import Augmentation, Parts, write_augmentation

if TYPE_CHECKING:
    from ..analysis.embeddings import Embedder
    from ..training.result import Callbacks

AUGMENTATION_FOLDER, WORK_FOLDER = "augmentation", "work"
REAL_FOLDER, COMBINED_FOLDER = "real", "combined"
REAL = "real"
TIMES_FILE = "times.jsonl"


class AugmentationError(CuratorError):
    """An augmentation that cannot be made as it is asked for."""


def make_augmentation(
    project: Project,
    base: Path | str = ".",
    *,
    callbacks: Callbacks | None = None,
    on_notes: Callable[[Sequence[str]], None] | None = None,
    progress: Progress = silent,
) -> Augmentation:
    """Curate real images, train a LoRA of them, make variations with it, and combine both.

    What exists is not made again. A run that was killed goes on, and ends with the same result.

    Args:
        project: With a section ``augmentation`` and one subject.
        base: The folder that its relative paths start from.
        callbacks: Who is told how the training goes.
        on_notes: Is told what is to be said of the images.
        progress: Watches.

    Raises:
        ProjectFileError: The project has no such section, or several subjects.
        AugmentationError: The LoRA file is not there.
        CuratorError: Something else that the message says how to mend.
    """
    section, subject = checked(project)
    output = resolved(base, project.project.output)
    if section.lora is not None and not resolved(base, section.lora).is_file():
        raise AugmentationError(
            f"There is no LoRA file {resolved(base, section.lora)}. Name it as 'lora' in "
            "[augmentation], or take the key out and add [training] to make one."
        )
    wish = _wish(section)  # refused before anything is done
    check_project(_of_real(project), base, output / WORK_FOLDER / REAL_FOLDER)
    notes: list[str] = []

    def say(more: Sequence[str]) -> None:
        notes.extend(more)
        if on_notes is not None and more:
            on_notes(more)

    clock = _Clock()
    real = _real(project, subject, output, base, say, progress)
    clock.note("curation_seconds")
    if section.lora is None:
        trained = train(
            _of_real(project), real.exported.folder, base, callbacks=callbacks, progress=progress
        )
        tell_of_training(real.exported.folder, trained)
        lora = trained.file
    else:
        lora = resolved(base, section.lora)
    clock.note("training_seconds")
    times = Times(output / WORK_FOLDER / TIMES_FILE)
    generated = _generate(project, lora, output, base, times.watch(progress))
    clock.skip()
    found = _choose_synthetic(project, real, generated, wish, output, base, say, progress)
    combined = _combine(project, subject, real, found, output, base, progress)
    clock.note("curation_seconds")
    return write_augmentation(
        output / AUGMENTATION_FOLDER,
        project,
        Parts(real.images, found.images, real.exported, combined),
        (lora, section.weight),
        {**clock.seconds, "generation_seconds": times.of(generated.table["path"])[0]},
        tuple(notes) + _shortages(section, found, real),
    )


def checked(project: Project) -> tuple[AugmentationSection, SubjectSection]:
    """Return the section and the subject of an augmentation.

    Raises:
        ProjectFileError: There is no such section, or there are several subjects.
    """
    if project.augmentation is None:
        raise ProjectFileError(
            "The project has no section [augmentation]. Add one, empty or with the number of "
            "synthetic images; without it 'character-curator run' makes a dataset of the real "
            "images alone."
        )
    if len(project.subjects) > 1:
        raise ProjectFileError(
            f"An augmentation is of one subject, and the project has {len(project.subjects)}. Make "
            "a project of each, or compare them with 'character-curator experiment augmentation'."
        )
    return project.augmentation, project.subjects[0]


def _wish(section: AugmentationSection) -> DisturbanceWish | None:
    """Return which copies there shall be, to choose from; ``None`` where there are none."""
    if not section.disturbed:
        return None
    return DisturbanceWish(section.disturbances, section.strength, section.seed)


@dataclass
class _Clock:
    """Seconds by what they were spent on."""

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def note(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def skip(self) -> None:
        self._since = time.monotonic()


def _of_real(project: Project) -> Project:
    """Return the project of the real images alone."""
    subject = project.subjects[0]
    own = subject.model_copy(update={"source": None, "unseen": None})
    return project.model_copy(
        update={
            "source": project.source if subject.source is None else subject.source,
            "plan": None,
            "scenarios": (),
            "subjects": (own,),
            "augmentation": None,
        }
    )


def _real(
    project: Project,
    subject: SubjectSection,
    output: Path,
    base: Path | str,
    say: Callable[[Sequence[str]], None],
    progress: Progress,
) -> pipeline.Outcome:
    """List, curate and export the real images."""
    part = _of_real(project)
    images = pipeline.source_images(part, base, progress=progress)
    say(images.notes)
    made = int((images.table["kind"].fill_null(REAL) != REAL).sum())
    if made:
        say([
            f"{how_many(made, 'image')} of the {len(images):,} that are given as real "
            f"{worded(made, 'says of itself', 'say of themselves')} that a program of this kind "
            f"has made or disturbed {worded(made, 'it; it is', 'them; they are')} taken as real."
        ])  # fmt: skip
    images = images.with_columns(
        pl.lit(REAL).alias("kind"),
        pl.lit(subject.name).alias("subject"),
    )
    if "class_word" not in images.table.columns:
        images = images.with_columns(pl.lit(subject.class_word).alias("class_word"))
    outcome = pipeline.curate(
        images,
        part,
        output / WORK_FOLDER / REAL_FOLDER,
        base=base,
        dataset=output / AUGMENTATION_FOLDER / REAL_FOLDER,
        progress=progress,
    )
    say(outcome.crops)
    return outcome


def _generate(
    project: Project, lora: Path, output: Path, base: Path | str, progress: Progress
) -> ImageSet:
    """Make the variations that are not there yet, with the LoRA; adds what each is to show."""
    from ..generation.run import generate

    section = project.augmentation or AugmentationSection()
    with working(project) as engine:
        images = generate(
            plan_of(project),
            backend_of(trained_base(project), [(lora, section.weight)], engine),
            output / pipeline.RAW_FOLDER,
            batch_size=project.model.batch_size,
            progress=progress,
            engine=engine,
        )
    known = variations_of(project)
    if not known:
        return images
    numbers = images.table["scenario"].to_list()
    return images.with_columns(
        *(pl.Series(axis, [known[n][axis] for n in numbers], pl.String) for axis in AXES)
    )


def _choose_synthetic(
    project: Project,
    real: pipeline.Outcome,
    generated: ImageSet,
    wish: DisturbanceWish | None,
    output: Path,
    base: Path | str,
    say: Callable[[Sequence[str]], None],
    progress: Progress,
) -> pipeline.Chosen:
    """Disturb those that pass, and choose among all of them as among any images."""
    from ..analysis.embeddings import Embedder
    from ..analysis.quality import score_quality

    work = output / WORK_FOLDER / "synthetic"
    chosen = real.images.filter(selected_mask(real.images))
    part = synthetic_part(project, chosen)
    images = generated
    if wish is not None:
        with FeatureStore(work / STORE_FILE) as store:
            found = pipeline.validate(images, part, store, work, base=base, progress=progress)
            passed = score_quality(
                found.images, store, minimum=project.quality.minimum,
                progress=progress, formula=project.quality.formula,
            )  # fmt: skip
        images = disturb_images(passed, output / "disturbed", wish, progress)
        say(images.notes[len(passed.notes) :])
        images = _unmeasured(images, generated)
    embedder = Embedder(project.clip.model, project.clip.pretrained or None)
    return pipeline.choose(
        images,
        part,
        work,
        base=base,
        separate=lambda them: _reject_memorised(
            them, chosen, embedder, work, project.duplicates.threshold, progress
        ),
        progress=progress,
    )


def _unmeasured(images: ImageSet, generated: ImageSet) -> ImageSet:
    """Return a set without what was found of it: everything is judged again, copies as well."""
    keep = [*generated.table.columns, "source", "disturbance", "disturbance_source"]
    keep += ["disturbance_record"]
    table = images.table.select([name for name in keep if name in images.table.columns])
    nothing = pl.lit(None, pl.String)
    return replace(
        images,
        table=table.with_columns(nothing.alias("rejection"), nothing.alias("rejection_detail")),
        notes=(),
    )


def synthetic_part(project: Project, chosen: ImageSet) -> Project:
    """Return the project by which synthetic images are curated.

    Args:
        project: Of the augmentation.
        chosen: The real images of its dataset: whom synthetic ones must show.
    """
    section = project.augmentation or AugmentationSection()
    references, quotas = _references(project, chosen), synthetic_quotas(project)
    return project.model_copy(
        update={
            "faces": project.faces.model_copy(update={"references": references}),
            "selection": project.selection.model_copy(
                update={"total": section.total, "quotas": quotas, "decisions": None}
            ),
            "source": None,
            "augmentation": None,
        }
    )


def _references(project: Project, chosen: ImageSet) -> tuple[str, ...]:
    """Return whom synthetic images must show: the project's references, else the real images."""
    if project.faces.references:
        return project.faces.references
    alone = chosen.filter(pl.col("face_count") == 1)
    return tuple(str(path.resolve()) for path in alone.paths())


def synthetic_quotas(project: Project) -> tuple[str, ...]:
    """Return the quotas of the synthetic images, the most important first.

    So many are disturbed as the section says; each kind of disturbance, each seed, and each value
    of angle, light, expression and background has three quarters of its even share at least.
    """
    section = project.augmentation or AugmentationSection()
    disturbed = round(section.total * section.disturbed)
    quotas = [f"kind=scenario:{section.total - disturbed},disturbed:{disturbed}"]
    if disturbed and (each := disturbed * 3 // (4 * len(section.disturbances))):
        kinds = ",".join(f"{kind}:{each}.." for kind in section.disturbances)
        if ":" not in "".join(section.disturbances):
            quotas.append(f"disturbance={kinds}")
    seeds = plan_of(project).seeds
    if len(seeds) > 1 and (each := section.total * 3 // (4 * len(seeds))):
        quotas.append(f"seed={each}..{-(-section.total * 3 // (2 * len(seeds)))}")
    if variations_of(project):
        values = (section.angles, section.lights, section.expressions, section.backgrounds)
        for axis, names in zip(AXES, values, strict=True):
            if each := section.total * 3 // (4 * len(names)):
                quotas.append(f"{axis}={each}..")
    return tuple(quotas)


def _reject_memorised(
    images: ImageSet,
    real: ImageSet,
    embedder: Embedder,
    work: Path,
    threshold: float,
    progress: Progress,
) -> ImageSet:
    """Turn synthetic images away that are nearly the same as a real one."""
    from ..analysis.embed import embed

    with FeatureStore(work / STORE_FILE) as store:
        known = embed(images, embedder, store, progress)
    rows = np.flatnonzero(known.accepted_mask())
    if not len(rows) or not len(real):
        return images
    vectors = known.accepted.embeddings()
    similarity = _unit(vectors) @ _unit(real.embeddings()).T
    nearest = similarity.argmax(axis=1)
    mask = np.zeros(len(images), dtype=bool)
    details = [""] * len(images)
    names = real.table["path"].to_list()
    for row, near, value in zip(rows, nearest, similarity.max(axis=1), strict=True):
        if value >= threshold:
            mask[row] = True
            details[row] = f"nearly the same as the real image {names[near]} ({value:.3f})"
    return images.reject(mask, Rejection.DUPLICATE, details)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _combine(
    project: Project,
    subject: SubjectSection,
    real: pipeline.Outcome,
    found: pipeline.Chosen,
    output: Path,
    base: Path | str,
    progress: Progress,
) -> Exported:
    """Export the real and the synthetic images as one dataset, in clusters of its own."""
    from ..analysis.clusters import cluster

    images = joined([_captioned(real.images, subject), _captioned(found.images, subject)])
    left = [name for name in ("cluster", "cluster_name") if name in images.table.columns]
    images = replace(images, table=images.table.drop(left))
    grouping = project.clusters
    with FeatureStore(output / WORK_FOLDER / STORE_FILE) as store:
        images = cluster(images, grouping.count, grouping.random_state, found.embedder, store=store)
    return export(
        images,
        output / AUGMENTATION_FOLDER / COMBINED_FOLDER,
        name=project.project.name,
        trigger=pipeline.trigger_of(project),
        recipe=recipe_of(project),
        masks=masks_of(project, base),
        models=found.models,
        minimums={} if found.identity is None else {"identity_similarity": found.identity},
        **project.dataset.model_dump(exclude={"trigger", "masks"}),
        progress=progress,
    )


def _captioned(images: ImageSet, subject: SubjectSection) -> ImageSet:
    if "class_word" in images.table.columns:
        return images
    return images.with_columns(pl.lit(subject.class_word).alias("class_word"))


def _shortages(
    section: AugmentationSection, found: pipeline.Chosen, real: pipeline.Outcome
) -> tuple[str, ...]:
    """Say what is not as it was asked for, and what to do."""
    count = int(selected_mask(found.images).sum())
    said = [str(sentence) for sentence in found.selection.sentences()[1:]]
    if count < section.total:
        said.append(
            f"{count:,} of {how_many(section.total, 'synthetic image')}: raise 'candidates' in "
            "[augmentation], lower a threshold, or ask for fewer."
        )
    left = {
        reason: n for reason, n in real.images.rejections().items() if reason != Rejection.QUOTA
    }
    if left:
        told = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in left.items())
        said.append(f"Real images that are left out: {told}.")
    return tuple(said)
