"""Evaluate LoRA files: make their images, measure them, write tables and sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import polars as pl

from ..features import FeatureStore
from ..generation.run import generate
from ..imageset import ImageSet
from ..naming import slug
from ..progress import Progress, silent
from .advice import findings
from .baseline import BASE_FOLDER, Baseline, MakeBackend, judged_by, prepare, with_place
from .images import compared, read_reference, requests_for
from .result import Evaluation, write
from .setup import Setup
from .summary import Measured, Summary, Targets, summarise

STORE_FILE = "features.sqlite"


def evaluate(
    files: Sequence[Path | str],
    dataset: Path | str,
    setup: Setup,
    output: Path | str,
    *,
    references: Sequence[Path] = (),
    targets: Targets = Targets(),  # noqa: B008
    backend: MakeBackend | None = None,
    store: FeatureStore | None = None,
    metadata: Mapping[Path, Mapping[str, str]] | None = None,
    progress: Progress = silent,
) -> tuple[Evaluation, ...]:
    """Evaluate LoRA files beside one base model.

    Every file gets a folder with ``pictures.parquet``, ``sheet.png`` and ``summary.json``. Images
    that are there are not made again, measurements neither: a killed evaluation goes on.

    Args:
        files: LoRA files.
        dataset: Folder of the training images.
        setup: Prompts, models and thresholds.
        output: Folder to write to.
        references: Images of the person, if the dataset's own centre shall not be the identity.
        targets: What the figures should reach.
        backend: What makes images, without a LoRA or with that of a file; the setup's own unless
            given.
        store: Where measurements are kept; a file in the output folder unless given.
        metadata: What files say of themselves, where that is known; others are read.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    from ..lora import file as lora_file

    known = metadata or {}
    said = {
        file: known[file] if file in known else dict(lora_file.read(file).metadata)
        for file in map(Path, files)
    }
    root = Path(output).expanduser()
    training = ImageSet.from_folder(dataset, progress=progress)
    with FeatureStore(root / STORE_FILE) if store is None else nullcontext(store) as opened:
        analysers = setup.analysers(opened)
        reference = read_reference(training, analysers, references, progress)
        baseline = prepare(setup, analysers, reference, root, progress, backend=backend)
        folders = names_of(list(said))
        return tuple(
            evaluate_file(
                baseline, file, root / name, metadata=values, targets=targets, progress=progress
            )
            for (file, values), name in zip(said.items(), folders, strict=True)
        )


def evaluate_file(
    baseline: Baseline,
    file: Path,
    folder: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate one LoRA file: make its images, measure, judge, write.

    Args:
        baseline: From :func:`prepare`.
        file: The LoRA file.
        folder: Where its results go.
        metadata: What the file says of itself, if read already.
        targets: What the figures should reach.
        progress: Watches.
    """
    setup, character = baseline.setup, baseline.setup.character
    backend = baseline.backend(file)
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
    found, embeddings = compared(made, baseline.reference, baseline.analysers, progress)
    whole = judged_by(
        Measured(with_place(found, None, baseline.root), embeddings),
        baseline.threshold,
        baseline.floor,
    )
    parts = {name: _of_series(whole, name) for name, _ in wanted}
    figures = {
        name: summarise(part, setup.duplicates)
        for name, part in {
            **parts,
            "base": baseline.base,
            **({"base class": baseline.base_of_class} if baseline.base_of_class else {}),
        }.items()
    }
    summary = Summary(
        figures["trigger"],
        figures.get("class"),
        figures["base"],
        figures.get("base class"),
        figures.get("grid"),
    )
    tables = [whole.table, baseline.base.table]
    if baseline.base_of_class:
        tables.append(baseline.base_of_class.table)
    result = Evaluation(
        file,
        summary,
        baseline.threshold,
        findings(summary, targets),
        pl.concat(tables, how="diagonal_relaxed"),
        folder,
        metadata or {},
    )
    write(result, baseline)
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


def _of_series(images: Measured, name: str) -> Measured:
    mask = images.table["series"] == name
    return Measured(images.table.filter(mask), images.embeddings[mask.to_numpy()])
