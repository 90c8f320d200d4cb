"""Why an image is not in the dataset, and what would change if it were: in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..counts import how_many
from ..rejection_reasons import Rejection, in_words

if TYPE_CHECKING:
    from ..selection import Price

_NAMED = 3
DECIDED = frozenset({Rejection.DUPLICATE.value, Rejection.QUOTA.value, Rejection.VETO.value})
"""Reasons of images that the selection itself has left out: they can be kept by a decision."""


def is_decidable(row: Mapping[str, Any], selected: bool) -> bool:
    """Return whether a decision could keep an image: no earlier stage has rejected it."""
    return selected or row["rejection"] is None or row["rejection"] in DECIDED


def forced_in(price: Price, names: Sequence[str], values: Sequence[float | None], what: str) -> str:
    """Say what would change if an image were forced into the selection.

    Args:
        price: From :func:`..selection.prices`.
        names: Path of each row of the table.
        values: What each is worth.
        what: What the values are called.
    """
    if price.cost is None:
        return "It cannot be forced in beside the images that decisions keep."
    if math.isinf(price.cost):
        return "Forced in, some quota would be missed by more than it is."
    if not price.exact:
        return (
            f"Forced in, the total {what} would fall by at least {price.cost:.4f} (a bound: this "
            "image was not solved for)."
        )
    parts = []
    if price.leaves:
        gone = _listed([_named(names[row], values[row]) for row in price.leaves])
        parts.append(f"it would take the place of {gone}")
    if price.enters:
        new = _listed([_named(names[row], values[row]) for row in price.enters])
        parts.append(f"{new} would enter with it")
    if abs(price.cost) < 5e-5:
        parts.append(f"the total {what} would stay as it is")
    else:
        verb = "fall" if price.cost > 0 else "rise"
        parts.append(f"the total {what} would {verb} by {abs(price.cost):.4f}")
    for column, more in price.missed:
        where = "total" if column == "total" else f"quota on {column}"
        parts.append(f"the {where} would be missed by {more} more")
    if len(parts) > 1:
        return f"Forced in, {', '.join(parts[:-1])}, and {parts[-1]} (exact)."
    return f"Forced in, {parts[0]} (exact)."


def reason_of(row: Mapping[str, Any], selected: bool) -> str:
    """Return what became of an image: ``selected``, or why not."""
    return "selected" if selected else in_words(row["rejection"] or "not selected")


def _named(path: str, value: float | None) -> str:
    return path if value is None else f"{path} ({value:.2f})"


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > _NAMED + 1:
        return f"{', '.join(texts[:_NAMED])} and {how_many(len(texts) - _NAMED, 'other')}"
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
