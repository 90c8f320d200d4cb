"""Evaluate LoRA files: make their pictures, measure them, write tables and sheets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .. import atomic
from ..features import FeatureStore
from ..generation.run import generate
from ..imageset import ImageSet
from ..naming import slug
from ..progress import Progress, silent
from .advice import Finding, findings
from .pictures import Instruments, Reference, compared, read_reference, requests_for
from .setup import Setup
from .sheet import grid_parts, sheet, write_png
from .summary import (
    Measured,
    Summary,
    Targets,
    adherence_floor,
    judged,
    summarise,
    training_distances,
)
from .threshold import IdentityThreshold, find_threshold

TABLE_FILE, SUMMARY_FILE, SHEET_FILE = "pictures.parquet", "summary.json", "sheet.png"
STORE_FILE, BASE_FOLDER = "features.sqlite", "base"


@dataclass(frozen=True)
class Bench:
    """What checkpoints of one base model and one dataset are compared on.

    Attributes:
        setup: Prompts, models, thresholds.
        instruments: Models that measure.
        reference: The character's identity and the training pictures.
        base: Pictures of the base model with the plain description, judged.
        base_of_class: With the class word alone, judged; ``None`` where they are not wanted.
        threshold: Of identity.
        floor: Least adherence that counts as what was asked for.
        root: Folder of everything that is written.
    """

    setup: Setup
    instruments: Instruments
    reference: Reference
    base: Measured
    base_of_class: Measured | None
    threshold: IdentityThreshold
    floor: float
    root: Path


@dataclass(frozen=True)
class Evaluation:
    """What one LoRA file has come to.

    Attributes:
        file: The file.
        summary: Its figures.
        threshold: Of identity.
        findings: Figures that miss their targets.
        table: A row a picture of every series (``trigger``, ``class``, ``grid``, ``base``, ``base
            class``).
        folder: Where table, contact sheet, summary and pictures are.
        metadata: What the file says of itself.
    """

    file: Path
    summary: Summary
    threshold: IdentityThreshold
    findings: tuple[Finding, ...]
    table: pl.DataFrame
    folder: Path
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.stem


def evaluate(
    files: Sequence[Path | str],
    dataset: Path | str,
    setup: Setup,
    output: Path | str,
    *,
    references: Sequence[Path] = (),
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> tuple[Evaluation, ...]:
    """Evaluate LoRA files on one bench.

    Every file gets a folder with ``pictures.parquet``, ``sheet.png`` and ``summary.json``. Pictures
    that are there are not made again, measurements neither: a killed evaluation goes on.

    Args:
        files: LoRA files.
        dataset: Folder of the training pictures.
        setup: Prompts, models and thresholds.
        output: Folder to write to.
        references: Pictures of the person, if the dataset's own centre shall not be the identity.
        targets: What the figures should reach.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    from ..training import checkpoint

    metadata = {Path(file): dict(checkpoint.read(Path(file)).metadata) for file in files}
    root = Path(output).expanduser()
    training = ImageSet.from_folder(dataset, progress=progress)
    with FeatureStore(root / STORE_FILE) as store:
        instruments = setup.instruments(store)
        reference = read_reference(training, instruments, references, progress)
        bench = prepare(setup, instruments, reference, root, progress)
        folders = names_of(list(metadata))
        return tuple(
            evaluate_file(
                bench, file, root / name, metadata=values, targets=targets, progress=progress
            )
            for (file, values), name in zip(metadata.items(), folders, strict=True)
        )


def prepare(
    setup: Setup,
    instruments: Instruments,
    reference: Reference,
    root: Path,
    progress: Progress = silent,
) -> Bench:
    """Make and measure the base model's pictures, and derive the thresholds from them."""
    character, folder = setup.character, root / BASE_FOLDER
    backend = setup.backend()

    def series(name: str, who: str) -> Measured:
        requests = requests_for(setup.prompts, who, name, neutral=character.of_class)
        images = generate(requests, backend, folder, batch_size=setup.batch_size, progress=progress)
        found, embeddings = compared(images, reference, instruments, progress)
        return Measured(_with_place(found, name, root), embeddings)

    base = series("base", character.described)
    of_class = series("base class", character.of_class) if setup.with_class else None
    others = of_class.table["identity_similarity"] if of_class else pl.Series([], dtype=pl.Float64)
    threshold = find_threshold(
        setup.rule,
        others.cast(pl.Float64).fill_null(np.nan).to_numpy(),
        reference.similarities,
    )
    floor = adherence_floor(base.table)
    return Bench(
        setup,
        instruments,
        reference,
        _judged(base, threshold, floor),
        _judged(of_class, threshold, floor) if of_class else None,
        threshold,
        floor,
        root,
    )


def evaluate_file(
    bench: Bench,
    file: Path,
    folder: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate one LoRA file: make its pictures, measure, judge, write.

    Args:
        bench: From :func:`prepare`.
        file: The LoRA file.
        folder: Where its results go.
        metadata: What the file says of itself, if read already.
        targets: What the figures should reach.
        progress: Watches.
    """
    setup, character = bench.setup, bench.setup.character
    backend = setup.backend(file)
    neutral = character.of_class
    wanted = [
        ("trigger", requests_for(setup.prompts, character.with_trigger, "trigger", neutral=neutral))
    ]
    if setup.with_class:
        wanted.append(("class", requests_for(setup.prompts, neutral, "class", neutral=neutral)))
    if setup.grid:
        wanted.append(
            ("grid", requests_for(setup.grid, character.with_trigger, "grid", neutral=neutral))
        )
    made = generate(
        [request for _, requests in wanted for request in requests],
        backend,
        folder / "pictures",
        batch_size=setup.batch_size,
        progress=progress,
    )
    found, embeddings = compared(made, bench.reference, bench.instruments, progress)
    whole = _judged(
        Measured(_with_place(found, None, bench.root), embeddings), bench.threshold, bench.floor
    )
    parts = {name: _of_series(whole, name) for name, _ in wanted}
    figures = {
        name: summarise(part, setup.duplicates)
        for name, part in {
            **parts,
            "base": bench.base,
            **({"base class": bench.base_of_class} if bench.base_of_class else {}),
        }.items()
    }
    summary = Summary(
        figures["trigger"],
        figures.get("class"),
        figures["base"],
        figures.get("base class"),
        figures.get("grid"),
    )
    tables = [whole.table, bench.base.table]
    if bench.base_of_class:
        tables.append(bench.base_of_class.table)
    result = Evaluation(
        file,
        summary,
        bench.threshold,
        findings(summary, targets),
        pl.concat(tables, how="diagonal_relaxed"),
        folder,
        metadata or {},
    )
    _write(result, bench)
    return result


def names_of(files: Sequence[Path]) -> list[str]:
    """Return a folder name a file: its own, with a number where two are called alike."""
    names: list[str] = []
    for file in files:
        name, count = slug(file.stem), 1
        while name in names or name == BASE_FOLDER:
            count += 1
            name = f"{slug(file.stem)}-{count}"
        names.append(name)
    return names


def summary_of(result: Evaluation, bench: Bench) -> dict[str, Any]:
    """Return everything that was found about a file, as JSON knows it."""
    setup = bench.setup
    return {
        "file": str(result.file),
        "model": str(setup.model),
        "trigger": setup.character.trigger,
        "identity_threshold": result.threshold.as_mapping(),
        "identity_reference": bench.reference.source,
        "adherence_floor": bench.floor if np.isfinite(bench.floor) else None,
        **result.summary.as_mapping(),
        "training_set_distance": training_distances(bench.reference.embeddings),
        "findings": [
            {"figure": f.figure, "value": f.value, "wanted": f.wanted, "advice": list(f.advice)}
            for f in result.findings
        ],
        "sampling": dict(setup.sampling),
        "strength": setup.strength,
    }


def _write(result: Evaluation, bench: Bench) -> None:
    folder = result.folder
    with atomic.replacing(folder / TABLE_FILE) as temporary:
        result.table.write_parquet(temporary)
    text = json.dumps(summary_of(result, bench), indent=1, allow_nan=False)
    atomic.write_text(folder / SUMMARY_FILE, text + "\n")
    table, root = result.table, bench.root
    own = table.filter(pl.col("series") == "trigger")
    parts = grid_parts(table.filter(pl.col("series") == "grid"), root) if bench.setup.grid else []
    described = bench.setup.character.described
    parts += [
        (f"{bench.setup.character.with_trigger}, new prompts", own.head(27), root),
        (
            f"The same without the trigger word: {bench.setup.character.of_class}",
            table.filter(pl.col("series") == "class").head(18),
            root,
        ),
        (
            f"The base model: {described}",
            table.filter(pl.col("series") == "base").head(18),
            root,
        ),
    ]
    title = (
        f"{result.name}: consistency {result.summary.trigger.consistency.value:.0%}, "
        f"artefacts {result.summary.trigger.artefacts.value:.0%}"
    )
    write_png(sheet(parts, title=title), folder / SHEET_FILE)


def _judged(pictures: Measured, threshold: IdentityThreshold, floor: float) -> Measured:
    return replace(pictures, table=judged(pictures.table, threshold.value, floor))


def _of_series(pictures: Measured, name: str) -> Measured:
    mask = pictures.table["series"] == name
    return Measured(pictures.table.filter(mask), pictures.embeddings[mask.to_numpy()])


def _with_place(images: ImageSet, series: str | None, root: Path) -> pl.DataFrame:
    """Name each row's series, and its path from the evaluation's folder on."""
    paths = [path.resolve().relative_to(root.resolve()).as_posix() for path in images.paths()]
    return images.table.with_columns(
        pl.Series("path", paths, pl.String),
        (pl.lit(series) if series else pl.col("subject")).alias("series"),
    )
