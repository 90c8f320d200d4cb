"""Does augmentation help a recogniser? Real images alone, and with synthetic variations of them.

Every run is one subject in one repeat: other real images, another LoRA, other variations, other
unseen images. What came of a run are the vectors of its images; a recogniser of all subjects learns
from those of a repeat.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from .. import atomic, pipeline
from ..analysis.embed import embed
from ..analysis.pixels import require_readable
from ..augmentation.disturbing import DisturbanceWish, disturb_images
from ..augmentation.making import make_augmentation, synthetic_part
from ..augmentation_section import AugmentationSection
from ..counts import how_many
from ..dataset.exporting import selected_mask
from ..features import FeatureStore
from ..imageset import ImageSet
from ..json_text import parse
from ..naming import slug
from ..parquet import parquet_bytes, read_parquet
from ..plain_files import plain_text
from ..plan import SEED_DOCUMENT_SEEDS
from ..progress import Progress, silent
from ..project import Project
from ..project_parts import STORE_FILE, source_of
from ..project_sections import PlanSection, SubjectSection, TrainingSection
from ..reading.disturbances import KINDS
from ..variations import with_variations
from .augmentation_tables import markdown, report_of
from .plan import ExperimentError, commit, require_files
from .recognition import (
    PART_CLASSIC,
    PART_COPY,
    PART_REAL,
    PART_SYNTHETIC,
    PART_UNSEEN,
    accuracies,
)
from .sharing import alone

REPORT_FILE, TABLE_FILE = "augmentation.json", "augmentation.md"
REAL_FILE, SYNTHETIC_FILE = "real.parquet", "synthetic.parquet"
RUNS_FOLDER, VECTORS_FILE, RUN_FILE = "runs", "vectors.parquet", "run.json"
_COLUMNS = ("part", "disturbance", "of", "hash", "turn", "embedding")

OnRun = Callable[[int, str, int, int], None]
"""Told of every run: repeat, subject, how many are done, how many there are."""


@dataclass(frozen=True)
class AugmentationPlan:
    """What the experiment will do, written down before anything is looked at.

    Attributes:
        repeats: How often recognisers are compared.
        loras: How many of the repeats have real images, a LoRA and variations of their own; those
            after them take turns with these, and differ in unseen images and disturbances alone.
        real: Real images of each subject that a repeat trains on.
        unseen: Images of each subject that it asks about.
        synthetic: Synthetic images of each subject.
        disturbed: Which share of them gives way to disturbed copies, in the arms that have such.
        strength: How much those are disturbed.
        test_strength: How much unseen images are disturbed.
        context: What the experiment is about.
    """

    repeats: int = 3
    loras: int = 3
    real: int = 70
    unseen: int = 60
    synthetic: int = 200
    disturbed: float = 0.5
    strength: float = 0.5
    test_strength: float = 0.5
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("repeats", "loras", "real", "unseen", "synthetic"):
            if getattr(self, name) < 1:
                raise ExperimentError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        for name in ("disturbed", "strength", "test_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ExperimentError(f"{name} is {getattr(self, name)}: it is from 0 to 1.")

    def lora_of(self, repeat: int) -> int:
        """Return the first repeat with the LoRA that a repeat has."""
        return (repeat - 1) % self.loras + 1

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON knows it."""
        return {**asdict(replace(self, context={})), "context": dict(self.context)}


def try_augmentation(
    project: Project,
    plan: AugmentationPlan,
    output: Path | str,
    *,
    base: Path | str = ".",
    shard: tuple[int, int] = (0, 1),
    progress: Progress = silent,
    on_run: OnRun | None = None,
) -> dict[str, Any]:
    """Augment every subject in every repeat, and compare recognisers.

    The plan is written first and is not changed afterwards. Every run's vectors stay in its folder
    and are not made again, so a stopped experiment goes on where it was. After every run the report
    so far is written: ``augmentation.json`` and ``augmentation.md``.

    Args:
        project: With a section ``augmentation`` and two subjects at least, each with a source.
        plan: Sizes and strengths.
        output: Folder of the experiment.
        base: The folder that the project's relative paths start from.
        shard: Which part of the runs this process makes: (index, count). Processes may work in one
            folder at the same time; the report is of all repeats that are whole.
        progress: Watches.
        on_run: Told of every run.

    Returns:
        The report, as ``augmentation.json`` has it.

    Raises:
        ExperimentError: The project has too few subjects, or a subject too few images.
        PlanChangedError: The folder holds an experiment with another plan.
        CuratorError: Something else that the message says how to mend.
    """
    if project.augmentation is None or len(project.subjects) < 2:
        raise ExperimentError(
            "This experiment needs a project with a section [augmentation] and two [[subjects]] at "
            "least, each with a 'source': a recogniser tells them apart."
        )
    root = Path(output).expanduser().resolve()
    known = {subject.name: _images_of(subject, base) for subject in project.subjects}
    for subject in project.subjects:
        _check(subject, known[subject.name], plan)
    described = project.model_dump(mode="json", exclude_none=True, exclude={"project"})
    prints = {
        name: [images.fingerprint() for images in pair if images is not None]
        for name, pair in known.items()
    }
    plan = replace(plan, context={"project": described, "images": prints})
    commit(plan, root)
    runs = [(n, s) for n in range(1, plan.repeats + 1) for s in project.subjects]
    mine = runs[shard[0] :: shard[1]]
    report: dict[str, Any] = {}
    for done, (repeat, subject) in enumerate(mine, 1):
        folder = _folder(root, repeat, subject)
        if not (folder / RUN_FILE).is_file():
            home = _folder(root, plan.lora_of(repeat), subject)
            with alone(root, home.name):
                sets = _augmented(project, plan, repeat, subject, known, home, base, progress)
            _run(project, plan, repeat, subject, known[subject.name], sets, folder, base, progress)
        with alone(root, "report"):
            report = _report(project, plan, root)
        if on_run is not None:
            on_run(repeat, subject.name, done, len(mine))
    return report


def _images_of(subject: SubjectSection, base: Path | str) -> tuple[ImageSet, ImageSet | None]:
    def read(source: str | Sequence[str]) -> ImageSet:
        given = [source] if isinstance(source, str) else list(source)
        return ImageSet.from_folder([source_of(base, one) for one in given]).accepted

    if subject.source is None:
        raise ExperimentError(
            f"The subject '{subject.name}' has no 'source': name the folder of its real images."
        )
    return read(subject.source), None if subject.unseen is None else read(subject.unseen)


def _check(
    subject: SubjectSection, images: tuple[ImageSet, ImageSet | None], plan: AugmentationPlan
) -> None:
    real, unseen = images
    if unseen is None:
        if len(real) < plan.real + plan.unseen:
            raise ExperimentError(
                f"'{subject.name}' has {how_many(len(real), 'image')}; {plan.real} to train on and "
                f"{how_many(plan.unseen, 'unseen one')} are wanted. Give more, or ask for fewer "
                "(--real, --unseen)."
            )
    elif len(real) < plan.real or len(unseen) < plan.unseen:
        raise ExperimentError(
            f"'{subject.name}' has {how_many(len(real), 'image')} and "
            f"{how_many(len(unseen), 'unseen one')}; {plan.real} and {plan.unseen} are wanted. "
            "Give more, or ask for fewer (--real, --unseen)."
        )


def drawn(
    images: tuple[ImageSet, ImageSet | None], plan: AugmentationPlan, repeat: int
) -> tuple[ImageSet, ImageSet]:
    """Draw the real images of a repeat's LoRA and the repeat's unseen ones, by content hash.

    A copy of a file that is trained on is never among the unseen ones.
    """
    real, unseen = images
    ordered = _shuffled(real, plan.lora_of(repeat))
    chosen = ordered.filter(pl.int_range(pl.len()) < plan.real)
    rest = _shuffled(unseen if unseen is not None else real, repeat)
    taken = chosen.table["hash"].to_list()
    free = rest.filter(~pl.col("hash").is_in(taken))
    return chosen, free.filter(pl.int_range(pl.len()) < plan.unseen)


def _shuffled(images: ImageSet, repeat: int) -> ImageSet:
    keys = [
        hashlib.sha256(f"augmentation {repeat} {value}".encode()).hexdigest()
        for value in images.table["hash"]
    ]
    table = images.table.with_columns(pl.Series("_key", keys)).sort("_key", "path").drop("_key")
    return replace(images, table=table)


def _folder(root: Path, repeat: int, subject: SubjectSection) -> Path:
    return root / RUNS_FOLDER / f"{repeat}-{slug(subject.name)}"


def _part(
    project: Project,
    plan: AugmentationPlan,
    repeat: int,
    subject: SubjectSection,
    real: ImageSet,
    folder: Path,
) -> Project:
    """Return the augmentation of one subject in one repeat, with seeds of its own."""
    section = project.augmentation or AugmentationSection()
    planned = with_variations(project).plan or PlanSection(seeds=SEED_DOCUMENT_SEEDS)
    seeds = tuple(seed + 1000 * (repeat - 1) for seed in planned.seeds)
    training = None
    if project.training is not None:
        options = {**project.training.model_dump(), **project.training.options, "seed": repeat}
        training = TrainingSection.model_validate(options)
    return project.model_copy(
        update={
            "project": project.project.model_copy(
                update={"name": subject.name, "output": str(folder)}
            ),
            "source": tuple(str(path.resolve()) for path in real.paths()),
            "subjects": (subject.model_copy(update={"source": None, "unseen": None}),),
            "plan": planned.model_copy(update={"seeds": seeds}),
            "training": training,
            "selection": project.selection.model_copy(update={"total": plan.real}),
            "augmentation": section.model_copy(
                update={"total": plan.synthetic, "disturbed": 0.0, "seed": repeat}
            ),
        }
    )


def _augmented(
    project: Project,
    plan: AugmentationPlan,
    repeat: int,
    subject: SubjectSection,
    known: Mapping[str, tuple[ImageSet, ImageSet | None]],
    folder: Path,
    base: Path | str,
    progress: Progress,
) -> tuple[Project, ImageSet, ImageSet]:
    """Augment one subject, once a LoRA: its project, real images, and synthetic ones."""
    real, _ = drawn(known[subject.name], plan, repeat)
    part = _part(project, plan, plan.lora_of(repeat), subject, real, folder)
    files = (folder / REAL_FILE, folder / SYNTHETIC_FILE)
    if not all(path.is_file() for path in files):
        made = make_augmentation(part, base, progress=progress)
        require_readable(made.images.synthetic)
        sets = (made.images.real, made.images.synthetic)
        for path, images in zip(files, sets, strict=True):
            images.filter(selected_mask(images)).write(path)
    chosen, synthetic = (ImageSet.read(path) for path in files)
    return part, chosen, synthetic


def _run(
    project: Project,
    plan: AugmentationPlan,
    repeat: int,
    subject: SubjectSection,
    images: tuple[ImageSet, ImageSet | None],
    sets: tuple[Project, ImageSet, ImageSet],
    folder: Path,
    base: Path | str,
    progress: Progress,
) -> None:
    """Disturb what is to be disturbed of one subject, and keep all vectors."""
    from ..analysis.embeddings import Embedder

    started = time.monotonic()
    _, unseen = drawn(images, plan, repeat)
    part, chosen, synthetic = sets
    by = synthetic_part(part, chosen)
    embedder = Embedder(project.clip.model, project.clip.pretrained or None)
    tables: list[pl.DataFrame] = []
    files: list[Path] = []
    with FeatureStore(folder / "vectors.sqlite") as store:

        def add(found: ImageSet, what: str) -> None:
            vectors = embed(found, embedder, store, progress)
            require_readable(vectors)
            files.extend(vectors.paths())
            tables.append(_rows(vectors, what))

        add(_bare(chosen), PART_REAL)
        add(_bare(synthetic), PART_SYNTHETIC)
        for kind in KINDS:
            # Of all, which is more than the arms need: not every copy passes.
            wish = DisturbanceWish((kind,), plan.strength, repeat)
            copies = _copies(_bare(synthetic), folder / "disturbed", wish, progress)
            # The same curation as any image: one valid face of the right person.
            with FeatureStore(folder / STORE_FILE) as measured:
                valid = pipeline.validate(
                    copies, by, measured, folder, base=base, progress=progress
                ).images
            require_readable(valid)
            add(_bare(valid.accepted), PART_COPY)
        count = min(plan.synthetic, len(chosen) * len(KINDS))
        wish = DisturbanceWish(KINDS, plan.strength, repeat, count)
        add(_copies(_bare(chosen), folder / "classic", wish, progress), PART_CLASSIC)
        add(_bare(unseen), PART_UNSEEN)
        for kind in KINDS:
            wish = DisturbanceWish((kind,), plan.test_strength, 10_000 + repeat)
            add(_copies(_bare(unseen), folder / "unseen", wish, progress), PART_UNSEEN)
    table = pl.concat(tables)
    require_files(files)
    atomic.write_bytes(folder / VECTORS_FILE, parquet_bytes(table))
    counts = {
        f"{what} {by_kind}".strip(): n
        for what, by_kind, n in table.group_by("part", "disturbance", maintain_order=True)
        .len()
        .iter_rows()
    }
    record = {
        "repeat": repeat,
        "subject": subject.name,
        "images": counts,
        "identity": synthetic.table["identity_similarity"].mean(),
        "seconds": round(time.monotonic() - started, 1),
    }
    atomic.write_text(folder / RUN_FILE, json.dumps(record, indent=1) + "\n")


def _bare(images: ImageSet) -> ImageSet:
    """Return images without what was measured of them, and with none rejected."""
    names = ["path", "hash", "width", "height", "kind", "rejection", "rejection_detail", "face_box"]
    names += ["generation", "disturbance", "disturbance_source", "disturbance_record"]
    table = images.table.select([name for name in names if name in images.table.columns])
    return ImageSet(table, images.root)


def _copies(images: ImageSet, folder: Path, wish: DisturbanceWish, progress: Progress) -> ImageSet:
    made = disturb_images(images, folder, wish, progress)
    return made.filter(pl.col("disturbance").is_not_null())


def _rows(images: ImageSet, part: str) -> pl.DataFrame:
    """Return what a recogniser needs to know of images."""
    table = images.table
    empty = pl.lit("", pl.String)
    copies = "disturbance" in table.columns
    return table.with_columns(
        pl.lit(part).alias("part"),
        (pl.col("disturbance").fill_null("") if copies else empty).alias("disturbance"),
        (pl.col("disturbance_source").fill_null("") if copies else empty).alias("of"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("turn"),
    ).select(_COLUMNS)


def _report(project: Project, plan: AugmentationPlan, root: Path) -> dict[str, Any]:
    """Compare the recognisers of every repeat that is whole, and write what came of it."""
    repeats: list[dict[str, Any]] = []
    for repeat in range(1, plan.repeats + 1):
        folders = {s.name: _folder(root, repeat, s) for s in project.subjects}
        if not all((folder / RUN_FILE).is_file() for folder in folders.values()):
            continue
        try:
            tables = {n: read_parquet(f / VECTORS_FILE, _COLUMNS) for n, f in folders.items()}
            runs = [parse(plain_text(f / RUN_FILE), strict=True) for f in folders.values()]
        except (OSError, ValueError) as error:
            raise ExperimentError(
                f"Repeat {repeat} in {root} is damaged: {error}. Take its folders away, and run "
                "the experiment again."
            ) from error
        repeats.append(
            {"repeat": repeat, "accuracy": accuracies(tables, plan.disturbed), "runs": runs}
        )
    report = {"plan": plan.as_mapping(), **report_of(repeats), "repeats": repeats}
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    atomic.write_text(root / REPORT_FILE, text)
    atomic.write_text(root / TABLE_FILE, markdown(report))
    return report
