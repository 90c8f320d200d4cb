"""Count what a dataset is made of."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

COLUMNS = {
    "kind": "Type",
    "category": "Category",
    "seed": "Seed",
    "cluster": "Cluster",
    "framing": "Framing",
    "pose": "Pose",
    "subject": "Subject",
}
"""Columns by which a dataset is described, and how they are called in tables."""


LABEL = 200
"""The most letters of a value's label, in a chart or on a sheet."""


@dataclass(frozen=True)
class ValueCount:
    """One value of a column.

    Attributes:
        key: The value as text.
        value: The value as text for a table: a cluster with its name.
        selected: How many selected images have it.
        candidates: How many candidates have it.
    """

    key: str
    value: str
    selected: int
    candidates: int


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters: what an image's file says may be megabytes."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def value_counts(table: pl.DataFrame, selected: pl.Series, column: str) -> list[ValueCount]:
    """Count each value of a column among selected images and candidates, in the value's order.

    A column that is absent or wholly null, or a value that is null, is not counted.
    """
    if column not in table.columns or not table[column].drop_nulls().len():
        return []
    with_names = column == "cluster" and "cluster_name" in table.columns
    names = pl.col("cluster_name") if with_names else pl.lit(None, dtype=pl.String)
    counted = (
        table.select(pl.col(column).alias("value"), names.alias("name"), selected.alias("chosen"))
        .drop_nulls("value")
        .group_by("value")
        .agg(pl.col("name").drop_nulls().first(), pl.col("chosen").sum(), pl.len().alias("all"))
        .sort("value")
    )
    return [
        ValueCount(
            str(value),
            shortened(f"{value} {name}" if name else str(value), LABEL),
            int(chosen),
            int(everything),
        )
        for value, name, chosen, everything in counted.iter_rows()
    ]
