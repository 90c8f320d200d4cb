"""What a quota means for the candidates of one table, in whole images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..counts import how_many
from ..errors import CuratorError
from .quotas import ContradictoryQuotaError, Quota, amount_for
from .reduction import Bounds


class UnknownColumnError(CuratorError):
    """A quota, or the value to maximise, names a column that the table does not have."""

    def __init__(self, column: str, present: list[str]) -> None:
        super().__init__(
            f"The image set has no column '{column}'. It has: {', '.join(sorted(present))}. "
            "Correct the name, or run the stage that adds the column first."
        )


class UncountableColumnError(CuratorError):
    """A column has values that cannot be counted, or be summed."""

    def __init__(self, column: str, kind: object, wanted: str) -> None:
        super().__init__(f"Column '{column}' holds {kind}; {wanted}. Name another column.")


@dataclass(frozen=True, eq=False)
class ResolvedQuota:
    """A quota over the candidates of one table.

    Attributes:
        quota: What was asked.
        labels: The values, in the order of the column.
        bounds: The numbers of images, and which value each candidate counts for.
    """

    quota: Quota
    labels: tuple[object, ...]
    bounds: Bounds


def resolve(quota: Quota, table: pl.DataFrame, accepted: pl.Series, total: int) -> ResolvedQuota:
    """Turn a quota into whole numbers for the values of its column.

    Args:
        quota: What is asked.
        table: Every row, the rejected too.
        accepted: Which rows are candidates.
        total: How many images will be selected.

    Raises:
        UnknownColumnError: There is no such column.
        UncountableColumnError: Its values cannot be counted.
        ContradictoryQuotaError: Its numbers cannot add up to ``total``.
    """
    if quota.column not in table.columns:
        raise UnknownColumnError(quota.column, table.columns)
    whole = table[quota.column]
    if whole.dtype.is_nested() or whole.dtype in (pl.Binary, pl.Object):
        raise UncountableColumnError(
            quota.column, whole.dtype, "a quota counts whole numbers, text or truth values"
        )
    if whole.dtype.is_float():
        whole = whole.fill_nan(None)
    column = whole.filter(accepted)
    labels: list[object] = column.drop_nulls().unique().sort().to_list()
    codes = _codes(column, labels)
    by_text = {str(label): label for label in labels}
    for value in quota.named():
        if value is not None and str(value) not in by_text:
            by_text[str(value)] = value
            labels.append(value)
    keys = list(by_text)
    if quota.exact is not None and quota.shares:
        minimum, maximum = _apportion([amount_for(quota.exact, key) for key in keys], total)
    else:
        sides = (
            (quota.exact, quota.exact)
            if quota.exact is not None
            else (
                quota.minimum,
                quota.maximum,
            )
        )
        minimum = [_whole(amount_for(sides[0], key), total, quota.shares, up=True) for key in keys]
        maximum = [_whole(amount_for(sides[1], key), total, quota.shares, up=False) for key in keys]
    _check_sums(quota, keys, minimum, maximum, set(whole.unique().cast(pl.String)), total)
    return ResolvedQuota(
        quota, tuple(labels), Bounds(codes, np.asarray(minimum, int), np.asarray(maximum, int))
    )


def _check_sums(
    quota: Quota,
    keys: list[str],
    minimum: list[int],
    maximum: list[int],
    everywhere: set[str | None],
    total: int,
) -> None:
    """Refuse numbers that cannot add up, where they were all written by hand."""
    for key, least, most in zip(keys, minimum, maximum, strict=True):
        if least > most:
            raise ContradictoryQuotaError(
                quota.column,
                f"of {how_many(total, 'image')}, no whole number lies within the shares of {key}",
            )
    if quota.named() == [None]:
        return  # how many values there are is for the images to say: relaxed, not refused
    if sum(minimum) > total:
        raise ContradictoryQuotaError(
            quota.column, f"its minimums sum to {sum(minimum)}, more than the total of {total}"
        )
    written = {str(value) for value in quota.named()}
    if everywhere <= written and sum(maximum) < total:
        name = "exact counts" if quota.exact is not None else "maximums"
        raise ContradictoryQuotaError(
            quota.column, f"its {name} sum to {sum(maximum)}, less than the total of {total}"
        )


def _codes(column: pl.Series, labels: list[object]) -> np.ndarray:
    """Return the position of each value among ``labels``, -1 for null."""
    mapping = pl.DataFrame(
        {
            "value": pl.Series(labels, dtype=column.dtype),
            "code": pl.Series(range(len(labels)), dtype=pl.Int64),
        }
    )
    joined = pl.DataFrame({"value": column}).join(
        mapping, on="value", how="left", maintain_order="left"
    )
    return joined["code"].fill_null(-1).to_numpy().copy()


def _whole(number: float | None, total: int, share: bool, *, up: bool) -> int:
    if number is None:
        return 0 if up else total
    if not share:
        return int(number)
    return math.ceil(number * total - 1e-9) if up else math.floor(number * total + 1e-9)


def _apportion(shares: list[float | None], total: int) -> tuple[list[int], list[int]]:
    """Round exact shares to whole images by largest remainder; ties are left open.

    Shares that are not given (None) are unconstrained.
    """
    given = [share * total for share in shares if share is not None]
    seats = round(math.fsum(given))
    floors = [math.floor(amount + 1e-9) for amount in given]
    left = max(0, seats - sum(floors))
    remainders = sorted((a - f for a, f in zip(given, floors, strict=True)), reverse=True)
    last = remainders[left - 1] if 0 < left <= len(remainders) else math.inf
    beyond = remainders[left] if left < len(remainders) else -math.inf
    minimum: list[int] = []
    maximum: list[int] = []
    for share in shares:
        if share is None:
            minimum.append(0)
            maximum.append(total)
            continue
        amount = share * total
        floor = math.floor(amount + 1e-9)
        remainder = amount - floor
        certain = remainder > last - 1e-9 and remainder > beyond + 1e-9
        possible = remainder > last - 1e-9
        minimum.append(floor + certain)
        maximum.append(floor + possible)
    return minimum, maximum
