"""A selection made again without images that turned out to be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from ..errors import CuratorError
from ..rejection_reasons import Rejection
from .balance import select
from .result import Selection


class NotKnownOfWhatError(CuratorError):
    """A selection does not know what it was chosen of."""

    def __init__(self) -> None:
        super().__init__(
            "This selection does not know what it was chosen of, so that it cannot be made again. "
            "Select once more, without the damaged images."
        )


def select_again(selection: Selection, damaged: Mapping[str, str]) -> Selection:
    """Select again, as it was asked for, without some images.

    Args:
        selection: Whose total, quotas, near-duplicates and decisions hold.
        damaged: Why an image cannot be used, by its path; each is rejected as unreadable.

    Returns:
        The best subset of the others.

    Raises:
        NotKnownOfWhatError: The selection does not know what it was chosen of.
        CuratorError: As :func:`.select`, where nothing is left, or a decision keeps one of them.
    """
    problem = selection.problem
    if problem is None:
        raise NotKnownOfWhatError
    table = selection.images.table
    rows = pl.int_range(table.height, eager=True)
    was_open = rows.is_in(problem.place.tolist())
    if selection.followed is not None:  # vetoes are made again
        was_open |= table["rejection"].eq_missing(Rejection.VETO.value)
    columns = [
        pl.when(was_open).then(None).otherwise(name).alias(name)
        for name in ("rejection", "rejection_detail")
    ]
    dropped = ("selected", "selection_rank", "decision")
    images = replace(
        selection.images, table=table.drop(dropped, strict=False).with_columns(columns)
    )
    gone = table["path"].is_in(list(damaged)).to_numpy()
    details = [damaged.get(path, "") for path in table["path"]]
    return select(
        images.reject(gone, Rejection.UNREADABLE, details),
        selection.total,
        selection.stated,
        value=selection.value,
        conflicts=problem.place[problem.pairs],
        decisions=None if selection.followed is None else selection.followed.decisions,
    )
