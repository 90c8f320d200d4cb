"""The figures of an evaluation, as functions of arrays.

Similarities are cosines. NaN stands for an image that has none: one without exactly one face has
no identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RATINGS = {1: "failed", 2: "poor", 3: "acceptable", 4: "good", 5: "excellent"}
"""What the ratings of :func:`ratings` are called."""


@dataclass(frozen=True)
class Share:
    """A share of images, with the interval that the true share lies in at 95 % confidence."""

    count: int
    """Images that have it."""
    total: int
    """Images in all."""

    @property
    def value(self) -> float:
        """The share; NaN of no images."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at 95 % confidence; (0, 1) of no images."""
        return wilson_interval(self.count, self.total)

    @staticmethod
    def of(mask: npt.ArrayLike) -> Share:
        """Count the true values of a mask."""
        values = np.asarray(mask, dtype=bool)
        return Share(int(values.sum()), len(values))

    def as_mapping(self) -> dict[str, float | int | list[float] | None]:
        """Return the share, its interval and its counts, as JSON knows them."""
        value = self.value if self.total else None
        return {
            "share": value,
            "interval": list(self.interval),
            "count": self.count,
            "of": self.total,
        }


def wilson_interval(count: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return Wilson's score interval of a binomial share (Wilson, 1927).

    Args:
        count: Successes.
        total: Trials.
        z: Quantile of the normal distribution; the default is for 95 %.
    """
    if not total:
        return 0.0, 1.0
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(
        share * (1 - share) / total + z * z / (4 * total * total)
    )  # fmt: skip
    # Rounding must not push the ends of 0 of n and n of n off 0 and 1.
    low = 0.0 if count == 0 else max(0.0, centre - reach)
    high = 1.0 if count == total else min(1.0, centre + reach)
    return low, high


def false_accept_threshold(others: npt.ArrayLike, rate: float = 0.01) -> float:
    """Return the similarity that no more than a given share of other people reaches.

    With ``k = floor(rate * n)`` it lies halfway between the k-th and the next highest similarity;
    with k = 0 just above the highest.

    Args:
        others: Similarities of other people to the character; NaN is left out.
        rate: The share of false accepts, in [0, 1).

    Raises:
        ValueError: There is no similarity.
    """
    known = np.asarray(others, dtype=np.float64)
    known = np.sort(known[~np.isnan(known)])[::-1]
    if not len(known):
        raise ValueError("no other people to derive a threshold from")
    k = math.floor(rate * len(known) + 1e-9)
    if k == 0:
        return float(np.nextafter(known[0], np.inf))
    if known[k - 1] == known[k]:
        # Equal values at the border: only above them the rate holds.
        return float(np.nextafter(known[k], np.inf))
    return float((known[k - 1] + known[k]) / 2)


def own_threshold(similarities: npt.ArrayLike, quantile: float = 0.05) -> float:
    """Return the similarity that all but a share ``quantile`` of the dataset's own faces reach.

    Args:
        similarities: Of the dataset's images to its centre; NaN is left out.
        quantile: In [0, 1]; linear between values, as NumPy's.

    Raises:
        ValueError: There is no similarity.
    """
    known = np.asarray(similarities, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        raise ValueError("no face to derive a threshold from")
    return float(np.quantile(known, quantile))


def passes(similarities: npt.ArrayLike, threshold: float) -> BoolArray:
    """Return which images are of the character; those without an identity are not."""
    values = np.asarray(similarities, dtype=np.float64)
    return np.asarray(np.nan_to_num(values, nan=-np.inf) >= threshold)


def nearest(
    images: NDArray[np.floating], training: NDArray[np.floating], *, same: bool = False
) -> tuple[NDArray[np.int64], FloatArray]:
    """Find the nearest training image of each image.

    Args:
        images: Embeddings, shape ``(n, d)``; rows are normalised first.
        training: Embeddings, shape ``(m, d)``.
        same: Both are the same images: none is its own neighbour.

    Returns:
        Row numbers in ``training`` and cosine distances (1 - cosine), shape ``(n,)``. Without any
        neighbour the number is -1 and the distance NaN.
    """
    a, b = _unit(images), _unit(training)
    if not len(a) or len(b) < 1 + same:
        return np.full(len(a), -1, np.int64), np.full(len(a), np.nan)
    cosine = a @ b.T
    if same:
        np.fill_diagonal(cosine, -np.inf)
    index = np.argmax(cosine, axis=1)
    distance = 1.0 - cosine[np.arange(len(a)), index]
    return index.astype(np.int64), np.clip(distance, 0.0, 2.0)


def ratings(
    one_face: npt.ArrayLike,
    is_character: npt.ArrayLike,
    is_clean: npt.ArrayLike,
    is_as_asked: npt.ArrayLike,
) -> NDArray[np.int64]:
    """Rate images from 1 to 5 (see :data:`RATINGS`).

    1: not exactly one certain face; 2: one face, somebody else's; 3: the character; 4: and either
    free of artefacts or as the prompt asks; 5: both.

    Args:
        one_face: Whether there is exactly one face, certain and large enough, shape ``(n,)``.
        is_character: Whether its identity passes the threshold.
        is_clean: Whether the image is free of artefacts.
        is_as_asked: Whether the adherence to the prompt suffices.
    """
    face, known = np.asarray(one_face, dtype=bool), np.asarray(is_character, dtype=bool)
    extra = np.asarray(is_clean, dtype=np.int64) + np.asarray(is_as_asked, dtype=np.int64)
    return np.where(face, np.where(known, 3 + extra, 2), 1).astype(np.int64)


def quantiles(
    values: npt.ArrayLike, at: tuple[float, ...] = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
) -> dict[str, float]:
    """Return quantiles by name (``q05``), of what is no NaN; empty of nothing."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return {}
    return {f"q{round(100 * q):02d}": float(np.quantile(known, q)) for q in at}


def _unit(rows: NDArray[np.floating]) -> FloatArray:
    x = np.asarray(rows, dtype=np.float64)
    if x.ndim != 2 or not x.size:
        return np.zeros((len(x) if x.ndim == 2 else 0, 0))
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
