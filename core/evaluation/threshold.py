"""From which similarity on a face counts as the character's, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..counts import how_many, worded
from .figures import false_accept_threshold, own_threshold

MINIMUM_OTHERS = 50
"""Faces of other people that it takes to derive a threshold from them."""

Source = Literal["given", "others", "dataset"]


@dataclass(frozen=True)
class ThresholdRule:
    """How the identity threshold is found.

    The three ways, in this order: a number that is given; what no more than ``false_accepts`` of
    other people's faces reach, other people being the base model's images of the class word (the
    same prompts without the character); and, with fewer than ``minimum_others`` of those, what all
    but ``own_quantile`` of the dataset's own faces reach.
    """

    value: float | None = None
    """A cosine; for buffalo_l, insightface's own example takes 0.28 between two images."""
    false_accepts: float = 0.01
    own_quantile: float = 0.05
    minimum_others: int = MINIMUM_OTHERS


@dataclass(frozen=True)
class IdentityThreshold:
    """A similarity to the character from which on a face is the character's.

    Attributes:
        value: Cosine.
        source: How it was found; see :class:`ThresholdRule`.
        explanation: The same in words.
    """

    value: float
    source: Source
    explanation: str

    def as_mapping(self) -> dict[str, Any]:
        """Return the threshold as JSON knows it."""
        return asdict(self)


def find_threshold(
    rule: ThresholdRule, others: npt.ArrayLike, own: npt.ArrayLike
) -> IdentityThreshold:
    """Derive the identity threshold.

    Args:
        rule: How.
        others: Similarities of other people's faces to the character; NaN for no face.
        own: Similarities of the dataset's faces; NaN for no face.
    """
    if rule.value is not None:
        return IdentityThreshold(float(rule.value), "given", "as given")
    count = int((~np.isnan(np.asarray(others, dtype=np.float64))).sum())
    if count >= rule.minimum_others:
        return IdentityThreshold(
            false_accept_threshold(others, rule.false_accepts),
            "others",
            f"no more than {rule.false_accepts:.1%} of {how_many(count, 'face')} of other people "
            "(the base model's images of the class word) reach it",
        )
    return IdentityThreshold(
        own_threshold(own, rule.own_quantile),
        "dataset",
        f"{1 - rule.own_quantile:.0%} of the dataset's own faces reach it (there "
        f"{worded(count, 'is', 'are')} only {how_many(count, 'face')} of other people to derive it "
        "from)",
    )
