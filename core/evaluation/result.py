"""What one LoRA file has come to, and the files that say so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .. import atomic
from ..parquet import parquet_bytes
from .advice import Finding
from .baseline import Baseline
from .sheet import grid_parts, sheet, write_png
from .summary import Summary, training_distances
from .threshold import IdentityThreshold

TABLE_FILE, SUMMARY_FILE, SHEET_FILE = "pictures.parquet", "summary.json", "sheet.png"


@dataclass(frozen=True)
class Evaluation:
    """What one LoRA file has come to.

    Attributes:
        file: The file.
        summary: Its figures.
        threshold: Of identity.
        findings: Figures that miss their targets.
        table: A row an image of every series (``trigger``, ``class``, ``grid``, ``base``, ``base
            class``).
        folder: Where table, contact sheet, summary and images are.
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


def summary_of(result: Evaluation, baseline: Baseline) -> dict[str, Any]:
    """Return everything that was found about a file, as JSON knows it."""
    setup = baseline.setup
    return {
        "file": str(result.file),
        "model": str(setup.model),
        "trigger": setup.character.trigger,
        "identity_threshold": result.threshold.as_mapping(),
        "identity_reference": baseline.reference.source,
        "adherence_floor": baseline.floor if np.isfinite(baseline.floor) else None,
        **result.summary.as_mapping(),
        "training_set_distance": training_distances(baseline.reference.embeddings),
        "findings": [
            {"figure": f.figure, "value": f.value, "wanted": f.wanted, "advice": list(f.advice)}
            for f in result.findings
        ],
        "sampling": dict(setup.sampling),
        "strength": setup.strength,
    }


def write(result: Evaluation, baseline: Baseline) -> None:
    """Write table, summary and contact sheet into the folder of the result."""
    folder = result.folder
    atomic.write_bytes(folder / TABLE_FILE, parquet_bytes(result.table))
    text = json.dumps(summary_of(result, baseline), indent=1, allow_nan=False)
    atomic.write_text(folder / SUMMARY_FILE, text + "\n")
    table, root = result.table, baseline.root
    own = table.filter(pl.col("series") == "trigger")
    parts = (
        grid_parts(table.filter(pl.col("series") == "grid"), root) if baseline.setup.grid else []
    )
    described = baseline.setup.character.described
    parts += [
        (f"{baseline.setup.character.with_trigger}, new prompts", own.head(27), root),
        (
            f"The same without the trigger word: {baseline.setup.character.of_class}",
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
