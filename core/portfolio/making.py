"""Make a portfolio: every subject's dataset, then the combined one, each only where it changed.

All subjects are looked at first, so that who each is is known; then each is curated beside the
others. A dataset that is settled (same project of its subject, same images, same models) is not
made again when another subject is added or changed: it stays as it is, to the byte. Whether one of
its images resembles a newcomer more than its own subject is then counted, and said.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .. import atomic, pipeline
from ..analysis.confusion import confusion, identities_of, reject_confused
from ..counts import worded
from ..damages import note_damage
from ..dataset.checksums import FILE_NAME, exported_checksums
from ..dataset.exporting import KOHYA, export, selected_mask
from ..dataset.publish import damage
from ..errors import CuratorError
from ..features import FeatureStore
from ..hashing import content_hash, json_hash, sealed, unsealed
from ..imageset import ImageSet
from ..json_text import number, parse
from ..naming import first_of, slug
from ..plain_files import plain_text
from ..progress import Progress, silent
from ..project import Project
from ..project_checks import check_project
from ..project_parts import STORE_FILE, backend_of, masks_of, with_output, working
from ..project_sections import PortfolioSection, SubjectSection
from .joining import joined
from .parts import COMBINED, part_of, recipe_of, total_of, trigger_of
from .records import Entry, Portfolio, write_portfolio
from .statistics import figures_of
from .times import Times

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ..analysis.embeddings import Embedder
    from ..analysis.identities import References
    from ..engines.work import Engine
    from ..generation.backend import Backend

PORTFOLIO_FOLDER, WORK_FOLDER = "portfolio", "work"
SETTLED_FILE, TIMES_FILE = "settled.json", "times.jsonl"


class UnknownSubjectError(CuratorError):
    """A subject is named that the project does not have."""

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(
            f"The project has no subject {', '.join(map(repr, names))}. There are: "
            f"{', '.join(known)}."
        )


class SubjectError(CuratorError):
    """The dataset of one subject cannot be made; those before it are there."""

    def __init__(self, name: str, error: CuratorError) -> None:
        super().__init__(
            f"Subject '{name}': {error}\nThe other subjects' datasets are untouched. Mend this and "
            "run again."
        )


def make_portfolio(
    project: Project,
    base: Path | str = ".",
    *,
    again: Collection[str] = (),
    on_notes: Callable[[Sequence[str]], None] | None = None,
    progress: Progress = silent,
) -> Portfolio:
    """Generate (or list), curate and export every subject of a project, and all of them together.

    What exists is not made again. A run that was killed goes on.

    Args:
        project: With a section ``portfolio``.
        base: The folder that its relative paths start from.
        again: Names of subjects to curate again although nothing of theirs has changed: beside
            all that are there now.
        on_notes: Is told what is to be said of collected images.
        progress: Watches.

    Raises:
        UnknownSubjectError: ``again`` names one that is not there.
        SubjectError: One subject's dataset cannot be made.
    """
    names = [subject.name for subject in project.subjects]
    if unknown := [name for name in again if name not in names]:
        raise UnknownSubjectError(unknown, names)
    section = project.portfolio or PortfolioSection()
    output = Path(base).expanduser() / Path(project.project.output).expanduser()
    for subject in project.subjects:  # all, before the images of the first are made
        with _named(subject.name):
            check_project(
                part_of(project, subject), base, output / WORK_FOLDER / slug(subject.name)
            )
    looked = []
    with working(project) as engine:
        backend = backend_of(project, engine=engine)  # whose weights load once, when needed
        for subject in project.subjects:
            with _named(subject.name):
                looked.append(
                    _look(project, subject, output, base, backend, on_notes, progress, engine)
                )
    identities = {one.subject.name: one.identity for one in looked if one.identity is not None}
    made = []
    for one in looked:
        with _named(one.subject.name):
            made.append(_settle(one, output, base, identities, section, again, progress))
    combined = _combine(project, made, output, base, looked[0].embedder, progress)
    entries = tuple(
        Entry(
            subject=one.looked.subject,
            trigger=trigger_of(one.looked.subject),
            folder=one.folder.name,
            version=one.version,
            fingerprint=one.fingerprint,
            wanted=total_of(project, one.looked.subject),
            kept=one.kept,
            against=one.against,
            figures=figures_of(one.images, one.looked.times, one.seconds, generated=one.generated),
        )
        for one in made
    )
    everyone = joined([one.images for one in made])
    chosen = everyone.filter(selected_mask(everyone))
    return write_portfolio(
        output / PORTFOLIO_FOLDER,
        project,
        entries,
        combined,
        confusion(everyone, identities, section.margin, names),
        confusion(chosen, identities, section.margin, names),
    )


@dataclass(frozen=True)
class _Looked:
    """A subject whose images are there and have been looked at."""

    subject: SubjectSection
    part: Project
    images: ImageSet
    root: Path
    key: str
    identity: References | None
    embedder: Embedder
    models: Mapping[str, str]
    work: Path
    times: Times
    seconds: float


@dataclass(frozen=True)
class _Made:
    """A subject whose dataset is there."""

    looked: _Looked
    images: ImageSet
    folder: Path
    version: int
    fingerprint: str
    seconds: float
    against: tuple[str, ...]
    kept: bool

    @property
    def generated(self) -> bool:
        return self.looked.part.source is None


def _look(
    project: Project,
    subject: SubjectSection,
    output: Path,
    base: Path | str,
    backend: Backend,
    on_notes: Callable[[Sequence[str]], None] | None,
    progress: Progress,
    engine: Engine,
) -> _Looked:
    part = part_of(project, subject)
    work = output / WORK_FOLDER / slug(subject.name)
    times = Times(work / TIMES_FILE)
    if part.source is not None:
        images = pipeline.source_images(with_output(part, work.resolve()), base, progress=progress)
        if on_notes is not None and images.notes:
            on_notes([f"{subject.name}: {note}" for note in images.notes])
        images = images.with_columns(pl.lit(subject.name).alias("subject"))
    else:
        images = pipeline.generate(
            part,
            base,
            backend=backend,
            work=work,
            progress=times.watch(progress),
            engine=engine,
        )
        if on_notes is not None and images.notes:
            on_notes([f"{subject.name}: {note}" for note in images.notes])
    started = time.monotonic()
    with FeatureStore(work / STORE_FILE) as store:
        found = pipeline.validate(
            images, part, store, work, base=base, progress=progress, engine=engine
        )
    if on_notes is not None and (crops := found.images.notes[len(images.notes) :]):
        on_notes([f"{subject.name}: {note}" for note in crops])
    given = {} if found.references is None else {subject.name: found.references}
    references = [Path(base).expanduser() / name for name in part.faces.references]
    decided = part.selection.decisions
    key = {
        "project": part.model_dump(mode="json", exclude_none=True, exclude={"project"}),
        "name": part.project.name,
        "images": sorted(images.table.select("path", pl.col("hash").fill_null("")).rows()),
        "references": [content_hash(path) for path in references],
        "decisions": None if decided is None else content_hash(Path(base).expanduser() / decided),
        "faces": found.analyser.identity_fingerprint,
        "clip": found.embedder.fingerprint,
    }
    return _Looked(
        subject,
        part,
        images,
        found.images.root,
        json_hash(_without_machine(key)),
        identities_of(found.images, given).get(subject.name),
        found.embedder,
        {"faces": found.analyser.backend.fingerprint, "clip": found.embedder.fingerprint},
        work,
        times,
        time.monotonic() - started,
    )


def _without_machine(key: dict[str, Any]) -> dict[str, Any]:
    """Leave out what decides where and how fast images are made, and not what they show."""
    model = {
        name: value
        for name, value in key["project"]["model"].items()
        if name not in ("batch_size", "device", "dtype")
    }
    return {**key, "project": {**key["project"], "model": model}}


def _settle(
    one: _Looked,
    output: Path,
    base: Path | str,
    identities: Mapping[str, References],
    section: PortfolioSection,
    again: Collection[str],
    progress: Progress,
) -> _Made:
    """Return a subject's dataset as it is, or curate it beside all others."""
    folder = output / PORTFOLIO_FOLDER / slug(one.subject.name)
    noted = _settled(one, folder)
    if noted is not None and one.subject.name not in again:
        images = replace(ImageSet.read(one.work / pipeline.TABLE_FILE), root=one.root)
        return _Made(
            one, images, folder, noted["version"], noted["fingerprint"], noted["seconds"],
            noted["against"], kept=True,
        )  # fmt: skip
    started = time.monotonic()
    outcome = pipeline.curate(
        one.images,
        one.part,
        one.work,
        base=base,
        dataset=folder,
        separate=lambda images: reject_confused(images, identities, section.margin),
        progress=progress,
    )
    seconds = round(one.seconds + time.monotonic() - started, 3)
    against = tuple(name for name in identities if name != one.subject.name)
    made = _Made(
        one, outcome.images, folder, outcome.exported.version, fingerprint_of(folder), seconds,
        against, kept=False,
    )  # fmt: skip
    if noted is not None and made.fingerprint == noted["fingerprint"]:
        made = replace(made, seconds=noted["seconds"])
    note = {
        "key": one.key,
        "version": made.version,
        "fingerprint": made.fingerprint,
        "seconds": made.seconds,
        "against": list(against),
    }
    atomic.write_text(one.work / SETTLED_FILE, json.dumps(sealed(note), indent=1) + "\n")
    return made


def _settled(one: _Looked, folder: Path) -> dict[str, Any] | None:
    """Return what is noted of a dataset, if it is the one that would be made and is there."""
    path = one.work / SETTLED_FILE
    try:
        noted = unsealed(parse(plain_text(path), strict=True))
        whole = (folder / FILE_NAME).is_file() and (one.work / pipeline.TABLE_FILE).is_file()
        same = whole and fingerprint_of(folder) == noted["fingerprint"]
        if not same or noted["key"] != one.key:
            return None
        if damaged := damage(folder):
            log.warning(
                "%d of the files of the dataset %s %s gone or changed, and it is made again: %s",
                len(damaged), folder, worded(len(damaged), "is", "are"), first_of(damaged),
            )  # fmt: skip
            return None
        ImageSet.read(one.work / pipeline.TABLE_FILE)
        return {
            "version": int(noted["version"]),
            "fingerprint": str(noted["fingerprint"]),
            "seconds": number(noted["seconds"]),
            "against": tuple(map(str, noted["against"])),
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, CuratorError) as error:
        note_damage("notes of datasets", path, "the dataset is made again")
        log.warning("What is noted of '%s' is damaged (%s): its dataset is made again.",
                    one.subject.name, error)  # fmt: skip
        return None


def fingerprint_of(dataset: Path) -> str:
    """Return the identity of a dataset as it was exported: of the hashes of all its files."""
    return json_hash(exported_checksums(dataset))


def _combine(
    project: Project,
    made: Sequence[_Made],
    output: Path,
    base: Path | str,
    embedder: Embedder,
    progress: Progress,
) -> Entry:
    """Export the chosen images of all subjects as one dataset, in clusters of its own."""
    from ..analysis.clusters import cluster

    images = joined([_captioned(one) for one in made])
    left = [name for name in ("cluster", "cluster_name") if name in images.table.columns]
    images = replace(images, table=images.table.drop(left))
    grouping = project.clusters
    with FeatureStore(output / WORK_FOLDER / STORE_FILE) as store:
        images = cluster(images, grouping.count, grouping.random_state, embedder, store=store)
    words = {one.looked.subject.name: trigger_of(one.looked.subject) for one in made}
    options = project.dataset.model_dump(exclude={"trigger", "layout", "masks"})
    exported = export(
        images,
        output / PORTFOLIO_FOLDER / COMBINED,
        name=project.project.name,
        trigger=words,
        recipe=recipe_of(project, combined=True),
        layout=project.dataset.layout or KOHYA,
        masks=masks_of(project, base),
        models=made[0].looked.models,
        **options,
        progress=progress,
    )
    return Entry(
        subject=None,
        trigger=", ".join(words.values()),
        folder=COMBINED,
        version=exported.version,
        fingerprint=fingerprint_of(exported.folder),
        wanted=sum(total_of(project, one.looked.subject) for one in made),
        kept=exported.unchanged,
        against=(),
        figures=figures_of(images, None, 0.0, generated=False),
    )


def _captioned(one: _Made) -> ImageSet:
    """Return a subject's table with what the combined dataset needs to know of it."""
    table = one.images.table
    if "class_word" not in table.columns:
        table = table.with_columns(pl.lit(one.looked.subject.class_word).alias("class_word"))
    return replace(one.images, table=table)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of whom an error is."""
    try:
        yield
    except CuratorError as error:
        raise SubjectError(name, error) from error
