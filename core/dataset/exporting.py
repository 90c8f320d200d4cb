"""Write a dataset: one folder that every reader understands, whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..counts import how_many
from ..errors import CuratorError
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..reading.opening import DamagedError
from ..selection.decisions import DECISIONS_FILE
from ..toml_lines import plain, recipe_toml
from . import captions as caption_texts
from .card import card
from .checksums import digests_of, write_list
from .composition import composition
from .exported import Exported
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
from .images import (
    MASK,
    ChangedError,
    Earlier,
    Look,
    Placed,
    SourcesChangedError,
    UnreadableSourcesError,
    look_of,
    place,
)
from .masks import KOHYA as KOHYA_MASKS
from .masks import Array, MaskWish, MaskWriter, checked
from .names import export_names, safe_stem
from .portfolio_text import tones_of
from .publish import DISK_FULL, next_version, publish, staging, version_of
from .records import Record, metadata_json, metadata_lines, record
from .shared_images import share_images
from .sidecars import metadata_name as usual_name
from .version_record import (
    fingerprint_of,
    generation_models,
    new_record,
    read_record,
    write_record,
)

if TYPE_CHECKING:
    from ..selection import Selection


FLAT, KOHYA = "flat", "kohya"
"""How the images of a dataset lie: beside each other, or in kohya's folders."""


class NothingSelectedError(CuratorError):
    """There is no image to export."""

    def __init__(self, images: ImageSet) -> None:
        reasons = ", ".join(f"{n} {reason}" for reason, n in images.rejections().items())
        super().__init__(
            f"None of {how_many(len(images), 'image')} is selected "
            f"({reasons or 'no selection was made'}). Lower a threshold or relax a quota, then "
            "export again."
        )


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
    layout: str | None = None,
    background: str | None = None,
    alpha: str | None = None,
    max_side: int | None = None,
    keep_formats: bool | None = None,
    masks: str | Sequence[Array] | MaskWish | None = None,
    mask_layout: str | None = None,
    mask_model: str | None = None,
    metadata_name: str | None = None,
    models: Mapping[str, str] | None = None,
    report: bool = True,
    minimums: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Exported:
    """Export the selected images as a dataset.

    The folder appears under its name only when it is whole. An earlier dataset there is kept as
    ``NAME.versions/v0001`` (``v0002``, …) beside it, their images stored once; when the new one is
    equal file by file, the old one stays and no version is made. The same images and arguments
    write the same bytes, but for ``version.json``, which says when they were written.

    Images are hard links to their sources where the file system allows: they take no space, and
    a program that edits a source in place edits the dataset with it, which :func:`verify` shows.
    What is no PNG is converted, and nothing but pixels (and how this program has made them) is
    published of any image: see :func:`.images.place`. What an earlier export to the same place has
    converted is not converted again.

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
        repeats: Repeats an epoch for ``dataset.toml``; 1 takes those of the images' own folders
            (``10_char1 woman``), where they have any.
        layout: ``flat`` (unless given) puts all images beside each other; ``kohya`` into folders
            of repeats, trigger and class word, such as ``10_char1 woman``.
        background: The color that transparent pixels show, a name or ``#rrggbb``; white unless
            given.
        alpha: ``background`` (unless given) stores no transparency; ``mask`` keeps it for trainers
            that take it for the mask of their loss, with ``alpha_mask`` in ``dataset.toml``.
        max_side: Images with a longer side are scaled down to it, in pixels.
        keep_formats: Keep JPEG and WebP files as they are, where that shows the same pixels.
        masks: A mask for each image: ``face`` or ``head`` as it was measured, ``person`` or
            ``foreground`` by rembg, ``alpha`` of transparent images, ``beside`` for those that lie
            beside the sources, a folder that holds them under the images' names, or an array (0 to
            255) for each selected image in their order; or a whole wish. An image without gets a
            white one.
        mask_layout: Where they lie, see :data:`.masks.LAYOUTS`; ``kohya`` unless given.
        mask_model: rembg's name of a model, or an ONNX file in its folder, for ``person`` and
            ``foreground``.
        metadata_name: What the file is called that :class:`CuratedDataset` reads; ``metadata.json``
            unless given, or ``curated.json`` in ComfyUI's ``datasets`` folder.
        models: Fingerprints of the models that measured the images, such as ``faces`` and ``clip``,
            for ``version.json``.
        report: Whether to write ``report.html``.
        minimums: By column, the least score that passed, for the report, where the recipe does not
            say it.
        progress: Who watches.

    Returns:
        What was written.

    Raises:
        NothingSelectedError: No row is selected.
        CaptionError: The caption strategy is unknown.
        LookError: The background is no color.
        MaskError: Masks can't be had.
        SourcesChangedError: Sources are gone or changed since they were measured.
        UnreadableSourcesError: Sources are damaged, so that they cannot be decoded as a whole.
        OutputError: The place cannot be used.
        DiskFullError: The disk is full; nothing is left behind.
    """
    place_of_output = Path(output).expanduser().resolve()
    caption_texts.check_strategy(captions)
    caption_texts.check_trigger(trigger)
    look = look_of(background, alpha, max_side, keep_formats)
    selected = selected_mask(images)
    chosen = ImageSet(images.table.filter(selected), images.root)
    if not len(chosen):
        raise NothingSelectedError(images)
    wish = _mask_wish(masks, mask_layout, mask_model, len(chosen))
    with staging(place_of_output) as folder:
        writer = None if wish is None else MaskWriter(wish, folder, chosen.root)
        shelf = _Shelf(folder, trigger, captions, look, Earlier.of(place_of_output), writer)
        groups = _groups(chosen, trigger, repeats) if layout == KOHYA else None
        records, placed = _write_images(chosen, shelf, groups, progress)
        size = sum((folder / r.file_name).stat().st_size for r in records)
        facts = _facts(chosen, name, trigger, plain(recipe or {}), license)
        facts = replace(facts, composition=composition(records))
        word = facts.trigger

        def write(file_name: str, text: str) -> None:
            (folder / file_name).write_text(text, encoding="utf-8", newline="\n")

        write(FACTS_FILE, facts_json(facts))
        metadata_file = metadata_name or usual_name(place_of_output)
        write(metadata_file, metadata_json(records))
        write("metadata.jsonl", metadata_lines(records))
        folder_of_masks = "masks" if wish is not None and wish.layout == KOHYA_MASKS else None
        write(
            "dataset.toml",
            trainer_toml(
                records, word, resolution, repeats, look.alpha == MASK, masks=folder_of_masks
            ),
        )
        write(RECIPE_FILE, recipe_toml(recipe or {}))
        if selection is not None and selection.followed is not None:
            write(DECISIONS_FILE, selection.followed.decisions.to_json())
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
                metadata_file=metadata_file,
                tones=tones_of(folder, records),
                thresholds=(facts.minimum_quality, facts.duplicates),
            ),
        )
        if report:
            from ..report import render

            write(
                "report.html",
                render(
                    images,
                    name=name,
                    trigger=word,
                    names=names,
                    selection=selection,
                    recipe=recipe,
                    minimums=minimums,
                ),
            )
        digests = digests_of(
            folder, {r.file_name: p.hash for r, p in zip(records, placed, strict=True)}
        )
        number, parent = next_version(place_of_output)
        replaced = read_record(place_of_output)
        known = {**(models or {}), "generation": generation_models(r.values for r in records)}
        write_record(folder, new_record(number, digests, parent=parent, models=known))
        write_list(folder, digests)
        published = publish(folder, place_of_output)
        shared = share_images(place_of_output)
    return Exported(
        folder=place_of_output,
        version=version_of(place_of_output),
        previous=published.previous,
        images=len(records),
        candidates=len(images),
        size_bytes=size,
        linked=sum(p.how == "linked" for p in placed),
        converted=sum(p.how == "converted" for p in placed),
        unchanged=published.unchanged,
        reused=sum(p.how == "reused" for p in placed),
        cleaned=sum(p.how == "cleaned" for p in placed),
        masks=0 if writer is None else len(records) - len(writer.without),
        white_masks=0 if writer is None else len(writer.without),
        fingerprint=fingerprint_of(digests),
        damaged=published.damaged,
        shared=shared,
        edits=0 if published.unchanged or replaced is None else replaced.edits or 0,
    )


def _mask_wish(
    masks: str | Sequence[Array] | MaskWish | None,
    layout: str | None,
    model: str | None,
    count: int,
) -> MaskWish | None:
    if masks is None:
        return None
    if isinstance(masks, MaskWish):
        return checked(masks, count)
    where = layout or KOHYA_MASKS
    if isinstance(masks, str):
        return checked(MaskWish(masks, where, model=model), count)
    return checked(MaskWish(layout=where, given=masks), count)


def selected_mask(images: ImageSet) -> pl.Series:
    """Return a boolean a row: not rejected and, where a selection was made, selected."""
    mask = images.table["rejection"].is_null()
    if "selected" in images.table.columns:
        mask = mask & images.table["selected"].fill_null(False)
    return mask.alias("selected")


@dataclass(frozen=True)
class _Shelf:
    """Where images go and how they and their captions are written."""

    folder: Path
    trigger: str | Mapping[str, str] | None
    strategy: str
    look: Look
    earlier: Earlier
    masks: MaskWriter | None = None


def _groups(chosen: ImageSet, trigger: str | Mapping[str, str] | None, repeats: int) -> list[str]:
    """Return the name of each image's folder: repeats, trigger and class word, as kohya has it."""
    names = []
    for row in chosen.table.iter_rows(named=True):
        phrase = f"{_trigger_of(row, trigger) or 'images'} {row.get('class_word') or ''}"
        times = repeats if repeats != 1 else row.get("repeats") or 1
        names.append(f"{times}_{safe_stem(phrase.strip() + '.x')}")
    return names


def _write_images(
    chosen: ImageSet, shelf: _Shelf, groups: Sequence[str] | None, progress: Progress
) -> tuple[list[Record], list[Placed]]:
    names = export_names(chosen.table["path"].to_list())
    if groups is not None:
        names = [f"{group}/{name}" for group, name in zip(groups, names, strict=True)]
        for group in set(groups):
            (shelf.folder / group).mkdir()
    records: list[Record] = []
    placed: list[Placed] = []
    problems: list[str] = []
    damaged: dict[str, str] = {}
    progress.start("Exporting", len(names))
    rows = chosen.table.iter_rows(named=True)
    for row, source, name in zip(rows, chosen.paths(), names, strict=True):
        try:
            one = place(source, shelf.folder / name, row["hash"], shelf.look, shelf.earlier)
        except DamagedError as error:
            damaged[row["path"]] = str(error)
            continue
        except (OSError, ChangedError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            problems.append(f"{source}: {getattr(error, 'strerror', None) or error}")
            continue
        word = None if shelf.trigger is None else _trigger_of(row, shelf.trigger)
        text = caption_texts.caption(row, word, shelf.strategy)
        target = (shelf.folder / name).with_suffix(".txt")
        target.write_text(text + "\n", encoding="utf-8", newline="\n")
        final = name.removesuffix(".png") + one.suffix
        mask = shelf.masks.write(len(records), row, final, one) if shelf.masks else ""
        records.append(record(row, final, text, one, mask))
        placed.append(one)
        progress.advance(1, name)
    progress.finish()
    if problems:
        raise SourcesChangedError(problems)
    if damaged:
        raise UnreadableSourcesError(damaged)
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
    classes = _class_words(chosen)
    subjects = []
    for one in [*told, *sorted(set(shown) - set(told))]:
        known, row = told.get(one, SubjectFacts(one)), {"subject": one or None}
        if one in classes and one not in told:
            known = replace(known, class_word=classes[one])
        if shown[one]:
            # Its captions call it by the word that the export was given, whatever the recipe says.
            word = _trigger_of(row, trigger)
        else:
            word = (None if trigger is None else _trigger_of(row, trigger)) or known.trigger
        subjects.append(replace(known, trigger=word or "", images=shown[one]))
    return replace(facts, license=license, subjects=tuple(subjects), trigger=trigger_of(subjects))


def _class_words(chosen: ImageSet) -> dict[str, str]:
    """Return what the folders that images lay in say that their subjects are."""
    if "class_word" not in chosen.table.columns:
        return {}
    pairs = chosen.table.select("subject", "class_word").drop_nulls().unique(maintain_order=True)
    return dict(reversed(pairs.rows()))


def _trigger_of(row: Mapping[str, Any], trigger: str | Mapping[str, str] | None) -> str | None:
    if isinstance(trigger, Mapping):
        return trigger.get(row["subject"] or "")
    return trigger if trigger is not None else row["subject"]
