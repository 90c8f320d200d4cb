"""Evaluate LoRA files: make their images, measure them, write tables and sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ..features import FeatureStore
from ..generation.run import generate
from ..imageset import ImageSet
from ..naming import slug
from ..progress import Progress, silent
from .advice import findings
from .bench import BASE_FOLDER, Bench, judged_by, prepare, with_place
from .images import compared, read_reference, requests_for
from .outcome import Evaluation, write
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
    progress: Progress = silent,
) -> tuple[Evaluation, ...]:
    """Evaluate LoRA files on one bench.

    Every file gets a folder with ``pictures.parquet``, ``sheet.png`` and ``summary.json``. Images
    that are there are not made again, measurements neither: a killed evaluation goes on.

    Args:
        files: LoRA files.
        dataset: Folder of the training images.
        setup: Prompts, models and thresholds.
        output: Folder to write to.
        references: Images of the person, if the dataset's own centre shall not be the identity.
        targets: What the figures should reach.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    from ..lora import file as lora_file

    metadata = {Path(file): dict(lora_file.read(Path(file)).metadata) for file in files}
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


def evaluate_file(
    bench: Bench,
    file: Path,
    folder: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    targets: Targets = Targets(),  # noqa: B008
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate one LoRA file: make its images, measure, judge, write.

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
    whole = judged_by(
        Measured(with_place(found, None, bench.root), embeddings), bench.threshold, bench.floor
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
    write(result, bench)
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
