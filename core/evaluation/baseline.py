"""What LoRA files are compared with: the base model's images, and thresholds derived from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ..generation.backend import Backend
from ..generation.run import generate
from ..imageset import ImageSet
from ..progress import Progress, silent
from .images import Analysers, Reference, compared, requests_for
from .setup import Setup
from .summary import Measured, adherence_floor, judged
from .threshold import IdentityThreshold, find_threshold

MakeBackend = Callable[[Path | None], Backend]
"""Returns what makes images with the LoRA of a file, or without any."""

BASE_FOLDER = "base"


@dataclass(frozen=True)
class Baseline:
    """What LoRA files of one base model and one dataset are compared with.

    Attributes:
        setup: Prompts, models, thresholds.
        analysers: Models that measure.
        reference: The character's identity and the training images.
        base: Images of the base model with the plain description, judged.
        base_of_class: With the class word alone, judged; ``None`` where they are not wanted.
        threshold: Of identity.
        floor: Least adherence that counts as what was asked for.
        root: Folder of everything that is written.
        backend: Makes images, without a LoRA or with that of a file.
    """

    setup: Setup
    analysers: Analysers
    reference: Reference
    base: Measured
    base_of_class: Measured | None
    threshold: IdentityThreshold
    floor: float
    root: Path
    backend: MakeBackend


def prepare(
    setup: Setup,
    analysers: Analysers,
    reference: Reference,
    root: Path,
    progress: Progress = silent,
    *,
    make: Callable[..., ImageSet] = generate,
    backend: MakeBackend | None = None,
) -> Baseline:
    """Make and measure the base model's images, and derive the thresholds from them.

    Args:
        setup: Prompts, models and thresholds.
        analysers: Models that measure.
        reference: The character's identity and the training images.
        root: Folder of everything that is written.
        progress: Watches.
        make: Makes the images that are not there yet; takes what ``generate`` takes.
        backend: What makes images; the setup's own unless given.
    """
    character, folder = setup.character, root / BASE_FOLDER
    with_lora = backend or setup.backend
    base_model = with_lora(None)

    def series(name: str, who: str) -> Measured:
        requests = requests_for(setup.prompts, who, name, neutral=character.of_class)
        images = make(requests, base_model, folder, batch_size=setup.batch_size, progress=progress)
        found, embeddings = compared(images, reference, analysers, progress)
        return Measured(with_place(found, name, root), embeddings)

    base = series("base", character.described)
    of_class = series("base class", character.of_class) if setup.with_class else None
    others = of_class.table["identity_similarity"] if of_class else pl.Series([], dtype=pl.Float64)
    threshold = find_threshold(
        setup.rule,
        others.cast(pl.Float64).fill_null(np.nan).to_numpy(),
        reference.similarities,
    )
    floor = adherence_floor(base.table)
    return Baseline(
        setup,
        analysers,
        reference,
        judged_by(base, threshold, floor),
        judged_by(of_class, threshold, floor) if of_class else None,
        threshold,
        floor,
        root,
        with_lora,
    )


def judged_by(images: Measured, threshold: IdentityThreshold, floor: float) -> Measured:
    """Return images with their judgement; see :func:`.summary.judged`."""
    return replace(images, table=judged(images.table, threshold.value, floor))


def with_place(images: ImageSet, series: str | None, root: Path) -> pl.DataFrame:
    """Name each row's series, and its path from the evaluation's folder on."""
    paths = [path.resolve().relative_to(root.resolve()).as_posix() for path in images.paths()]
    return images.table.with_columns(
        pl.Series("path", paths, pl.String),
        (pl.lit(series) if series else pl.col("subject")).alias("series"),
    )
