"""Sets of several subjects as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ..errors import CuratorError
from ..imageset import ImageSet


class SameSubjectError(CuratorError):
    """Two sets that are to be of different subjects are of one."""

    def __init__(self, name: str, first: int, second: int) -> None:
        super().__init__(
            f"Set {first} and set {second} are both of the subject '{name}'. Give each character "
            "a name of its own in its plan, or connect one of the sets only."
        )


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """Return several sets as one, in their order.

    Where they lie in several folders, paths are below the one that holds them all, and ``source``
    is what people are told of where an image is from: its subject and its path in its own set.

    Args:
        sets: One at least; columns that some lack are null for their images.
    """
    roots = {one.root.resolve() for one in sets}
    root = Path(os.path.commonpath(roots))
    tables = [one.table if len(roots) == 1 else _placed(one, root) for one in sets]
    return ImageSet(pl.concat(tables, how="diagonal_relaxed"), root)


def _placed(one: ImageSet, root: Path) -> pl.DataFrame:
    known = "source" if "source" in one.table.columns else "path"
    above = one.root.resolve().relative_to(root)
    return one.table.with_columns(
        pl.concat_str(pl.col("subject").fill_null(""), pl.lit("/"), pl.col(known)).alias("source"),
        pl.Series("path", [(above / path).as_posix() for path in one.table["path"]], pl.String),
    )


def joined_as_selected(sets: Sequence[ImageSet]) -> ImageSet:
    """Return several sets as one; what was chosen of each, by its own selection, stays chosen.

    A set of which nothing was selected yet counts as chosen as far as it is accepted, once another
    has a selection. Clusters of the sets have nothing to do with each other and are left out.

    Args:
        sets: One at least.
    """
    selecting = any("selected" in one.table.columns for one in sets)
    parts = []
    for one in sets:
        table = one.table.drop([n for n in ("cluster", "cluster_name") if n in one.table.columns])
        if selecting and "selected" not in table.columns:
            table = table.with_columns(pl.col("rejection").is_null().alias("selected"))
        parts.append(ImageSet(table, one.root, one.notes))
    return joined(parts)
