"""Write a dataset: one folder that every reader understands, whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..errors import CuratorError
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..toml_lines import plain, recipe_toml
from . import captions as caption_texts
from .card import card
from .checksums import write_checksums
from .facts import (
    FACTS_FILE,
    RECIPE_FILE,
    DatasetFacts,
    SubjectFacts,
    facts_json,
    facts_of,
    trigger_of,
)
from .formats import trainer_toml, write_provenance
from .images import Placed, SourcesChangedError, place
from .names import export_names
from .publish import DISK_FULL, publish, staging, versions
from .records import Record, metadata_json, metadata_lines, record
from .sidecars import METADATA_FILE

if TYPE_CHECKING:
    from ..selection import Selection


class NothingSelectedError(CuratorError):
    """There is no image to export."""

    def __init__(self, images: ImageSet) -> None:
        reasons = ", ".join(f"{n} {reason}" for reason, n in images.rejections().items())
        super().__init__(
            f"None of {len(images)} images is selected ({reasons or 'no selection was made'}). "
            "Lower a threshold or relax a quota, then export again."
        )


@dataclass(frozen=True)
class Exported:
    """A dataset on disk.

    Attributes:
        folder: The folder.
        version: 1 for the first export to this place.
        previous: Where the version before is kept, if this export replaced one.
        images: How many images it holds.
        candidates: How many images it was selected from.
        size_bytes: Size of the images together.
        linked: Images that share their bytes on disk with the source.
        converted: Images that were converted to PNG.
        unchanged: The place held the same dataset already, and was left as it was.
    """

    folder: Path
    version: int
    previous: Path | None
    images: int
    candidates: int
    size_bytes: int
    linked: int
    converted: int
    unchanged: bool


def export(
    images: ImageSet,
    output: Path | str,
    *,
    name: str,
    trigger: str | Mapping[str, str] | None = None,
    captions: str = caption_texts.DEFAULT,
    selection: Selection | None = None,
    recipe: Mapping[str, Any] | None = None,
    license: str = "other",
    resolution: int | None = None,
    repeats: int = 1,
    report: bool = True,
    progress: Progress = silent,
) -> Exported:
    """Export the selected images as a dataset.

    The folder appears under its name only when it is whole. An earlier dataset there is kept as
    ``NAME.versions/v0001`` (``v0002``, …) beside it; when the new one is equal file by file, the
    old one stays and no version is made. The same images and arguments write the same bytes.

    Images are hard links to their sources where the file system allows: they take no space, and
    a program that edits a source in place edits the dataset with it, which :func:`verify` shows.
    What is no PNG is converted (see :func:`.images.place`).

    Args:
        images: Every candidate. Selected are the rows that are not rejected and, when there is a
            column ``selected``, are marked there.
        output: The folder to write.
        name: The dataset's name, for people.
        trigger: The trigger word, or one a subject; ``None`` takes the subjects' names.
        captions: How captions are written: see :func:`.captions.caption`.
        selection: How the images were selected (quotas, proof), for card and report.
        recipe: What makes the dataset again, for ``recipe.toml``; character, scenes and models
            are taken from it into ``facts.json``.
        license: Identifier of the dataset's licence, for card and ``facts.json``.
        resolution: Training resolution for ``dataset.toml``; ``None`` derives it.
        repeats: Repeats an epoch for ``dataset.toml``.
        report: Whether to write ``report.html``.
        progress: Who watches.

    Returns:
        What was written.

    Raises:
        NothingSelectedError: No row is selected.
        CaptionError: The caption strategy is unknown.
        SourcesChangedError: Sources are gone or changed since they were measured.
        OutputError: The place cannot be used.
        DiskFullError: The disk is full; nothing is left behind.
    """
    place_of_output = Path(output).expanduser().resolve()
    caption_texts.check_strategy(captions)
    selected = selected_mask(images)
    chosen = ImageSet(images.table.filter(selected), images.root)
    if not len(chosen):
        raise NothingSelectedError(images)
    with staging(place_of_output) as folder:
        records, placed = _write_images(chosen, folder, trigger, captions, progress)
        size = sum((folder / r.file_name).stat().st_size for r in records)
        facts = _facts(chosen, name, trigger, plain(recipe or {}), license)
        word = facts.trigger

        def write(file_name: str, text: str) -> None:
            (folder / file_name).write_text(text, encoding="utf-8", newline="\n")

        write(FACTS_FILE, facts_json(facts))
        write(METADATA_FILE, metadata_json(records))
        write("metadata.jsonl", metadata_lines(records))
        write("dataset.toml", trainer_toml(records, word, resolution, repeats))
        write(RECIPE_FILE, recipe_toml(recipe or {}))
        names = dict(zip(chosen.table["path"], (r.file_name for r in records), strict=True))
        write_provenance(images, names, folder / "provenance.parquet")
        write(
            "README.md",
            card(
                records,
                images.table,
                selected,
                name=name,
                trigger=word,
                size_bytes=size,
                license=license,
                selection=selection,
            ),
        )
        if report:
            from ..report import render

            write(
                "report.html",
                render(
                    images, name=name, trigger=word, names=names, selection=selection, recipe=recipe
                ),
            )
        write_checksums(folder, {r.file_name: p.hash for r, p in zip(records, placed, strict=True)})
        previous = publish(folder, place_of_output)
        # publish() takes the folder, unless the place holds the same already.
        unchanged = folder.exists()
    return Exported(
        folder=place_of_output,
        version=len(versions(place_of_output)) + 1,
        previous=previous,
        images=len(records),
        candidates=len(images),
        size_bytes=size,
        linked=sum(p.how == "linked" for p in placed),
        converted=sum(p.how == "converted" for p in placed),
        unchanged=unchanged,
    )


def selected_mask(images: ImageSet) -> pl.Series:
    """Return a boolean a row: not rejected and, where a selection was made, selected."""
    mask = images.table["rejection"].is_null()
    if "selected" in images.table.columns:
        mask = mask & images.table["selected"].fill_null(False)
    return mask.alias("selected")


def _write_images(
    chosen: ImageSet,
    folder: Path,
    trigger: str | Mapping[str, str] | None,
    strategy: str,
    progress: Progress,
) -> tuple[list[Record], list[Placed]]:
    names = export_names(chosen.table["path"].to_list())
    records, placed, problems = [], [], []
    progress.start("Exporting", len(names))
    rows = chosen.table.iter_rows(named=True)
    for row, source, name in zip(rows, chosen.paths(), names, strict=True):
        try:
            one = place(source, folder / name, row["hash"])
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            problems.append(f"{source}: {getattr(error, 'strerror', None) or error}")
            continue
        text = caption_texts.caption(row, _trigger_of(row, trigger), strategy)
        target = (folder / name).with_suffix(".txt")
        target.write_text(text + "\n", encoding="utf-8", newline="\n")
        records.append(record(row, name, text, one))
        placed.append(one)
        progress.advance(1, name)
    progress.finish()
    if problems:
        raise SourcesChangedError(problems)
    return records, placed


def _facts(
    chosen: ImageSet,
    name: str,
    trigger: str | Mapping[str, str] | None,
    recipe: Mapping[str, Any],
    license: str,
) -> DatasetFacts:
    """Return what the dataset says of itself: the recipe's facts, its subjects as exported."""
    facts = facts_of(recipe, name)
    told = {subject.name: subject for subject in facts.subjects}
    shown = Counter(subject or "" for subject in chosen.table["subject"])
    subjects = []
    for one in [*told, *sorted(set(shown) - set(told))]:
        known, row = told.get(one, SubjectFacts(one)), {"subject": one or None}
        if shown[one]:
            # Its captions call it by the word that the export was given, whatever the recipe says.
            word = _trigger_of(row, trigger)
        else:
            word = (None if trigger is None else _trigger_of(row, trigger)) or known.trigger
        subjects.append(replace(known, trigger=word or "", images=shown[one]))
    return replace(facts, license=license, subjects=tuple(subjects), trigger=trigger_of(subjects))


def _trigger_of(row: Mapping[str, Any], trigger: str | Mapping[str, str] | None) -> str | None:
    if isinstance(trigger, Mapping):
        return trigger.get(row["subject"] or "")
    return trigger if trigger is not None else row["subject"]
