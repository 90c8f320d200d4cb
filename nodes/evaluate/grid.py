"""Runs core's evaluation on wires, and draws its grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.evaluation.outcome import Evaluation
    from ...core.features import FeatureStore
    from ...core.progress import Progress
    from .on_wires import WireSetup

_SIDE = 256
"""Of an image in the grid, in pixels: large enough to judge a face, and for its prompt above."""


def evaluate_on_wires(
    setup: WireSetup,
    file: Path,
    metadata: Mapping[str, str],
    dataset: Path,
    root: Path,
    store: FeatureStore,
    references: Sequence[Path],
    progress: Progress,
) -> Evaluation:
    """Evaluate a LoRA beside its base model; what is there is neither made nor measured again.

    Args:
        setup: Prompts, wires, models and thresholds.
        file: The LoRA file, or whatever names the trained model.
        metadata: What the file says of itself.
        dataset: Folder of the training images.
        root: Folder of everything that is written.
        store: Where measurements are kept.
        references: Images of the person, if the dataset's own centre shall not be the identity.
        progress: Watches.

    Raises:
        CuratorError: Something that the message says how to mend.
    """
    from ...core.evaluation.bench import prepare
    from ...core.evaluation.checkpoints import evaluate_file, names_of
    from ...core.evaluation.images import read_reference
    from ...core.imageset import ImageSet

    training = ImageSet.from_folder(dataset, progress=progress)
    instruments = setup.instruments(store)
    reference = read_reference(training, instruments, references, progress)
    bench = prepare(setup, instruments, reference, root, progress)
    [name] = names_of([file])
    return evaluate_file(bench, file, root / name, metadata=metadata, progress=progress)


def grid_of(evaluation: Evaluation, root: Path) -> Any:
    """Draw prompts x seeds, a line a prompt and a rating under each image; the base below.

    Returns:
        A PIL image in RGB.
    """
    import polars as pl

    from ...core.evaluation.sheet import grid_parts, sheet

    table = evaluation.table
    parts = []
    for series, heading in (("trigger", ""), ("base", "Base model: ")):
        rows = table.filter(pl.col("series") == series)
        parts += [(heading + title, part, place) for title, part, place in grid_parts(rows, root)]
    figures = evaluation.summary.trigger
    title = (
        f"{evaluation.name}: consistency {figures.consistency.value:.0%}, "
        f"artefacts {figures.artefacts.value:.0%}"
    )
    columns = max(part.height for _, part, _ in parts)
    return sheet(parts, title=title, columns=max(3, min(columns, 9)), side=_SIDE)
