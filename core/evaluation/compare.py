"""Several checkpoints side by side, and which of them is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from ..lora.header import read_header
from .result import Evaluation

_BASE = "base model"


def figures_table(evaluations: Sequence[Evaluation]) -> pl.DataFrame:
    """Return a row a checkpoint, in the order given, and one of the base model.

    Columns: ``name, score, consistency, artefacts, leakage, adherence, adherence_loss`` (how much
    lower than the base model's), ``identity, quality, rating, grid_rating, diversity, memorised,
    one_face, validation_loss``; null where not measured.
    """
    rows = [_row(evaluation) for evaluation in evaluations]
    base = evaluations[0].summary if evaluations else None
    if base is not None and base.base is not None:
        chance = base.base_leakage
        rows.append(
            _figures(_BASE, base.base)
            | {"leakage": chance.value if chance and chance.total else None}
        )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pl.DataFrame(
        {
            column: pl.Series(
                column,
                [row.get(column) for row in rows],
                pl.String if column == "name" else pl.Float64,
            )
            for column in columns
        }
    )


def best_by_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the checkpoint with the highest score; of equal ones the first.

    Raises:
        ValueError: There is none.
    """
    return max(evaluations, key=lambda evaluation: evaluation.summary.score)


def best_by_validation(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """Return the checkpoint with the lowest validation loss; ``None`` if no file says any."""
    losses = [(read_header(e.metadata).validation_loss, e) for e in evaluations]
    known = [(loss, e) for loss, e in losses if loss is not None]
    return min(known, key=lambda pair: pair[0], default=(None, None))[1]


def _row(evaluation: Evaluation) -> dict[str, Any]:
    summary = evaluation.summary
    leakage, grid, base = summary.leakage, summary.grid, summary.base
    loss = base.adherence - summary.trigger.adherence if base else math.nan
    return (
        {"name": evaluation.name, "score": summary.score}
        | _figures(evaluation.name, summary.trigger)
        | {
            "leakage": leakage.value if leakage and leakage.total else None,
            "adherence_loss": loss if math.isfinite(loss) else None,
            "grid_rating": grid.rating if grid else None,
            "validation_loss": read_header(evaluation.metadata).validation_loss,
        }
    )


def _figures(name: str, figures: Any) -> dict[str, Any]:
    numbers = ("adherence", "identity", "quality", "rating", "diversity")
    shares = ("consistency", "artefacts", "memorised", "one_face", "usable")
    values = {n: getattr(figures, n) for n in numbers}
    values |= {n: getattr(figures, n).value for n in shares}
    return {"name": name} | {n: v if math.isfinite(v) else None for n, v in values.items()}
