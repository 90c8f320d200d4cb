"""What a LoRA file's images come to: figures, and which of them are as they should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..analysis.diversity import vendi_score
from ..defaults import DUPLICATE_SIMILARITY
from .figures import RATINGS, FloatArray, Share, nearest, passes, quantiles, ratings


@dataclass(frozen=True)
class Measured:
    """Measured images of one series, with their embeddings."""

    table: pl.DataFrame
    """With the columns of :func:`.images.compared`."""
    embeddings: NDArray[np.float32]
    """Shape ``(n, d)``."""


@dataclass(frozen=True)
class SeriesFigures:
    """The figures of one series of images.

    Attributes:
        consistency: Images whose identity similarity passes the threshold, of all images: one
            without exactly one face does not.
        artefacts: Images that fail the checks of faces or of quality.
        one_face: Images with exactly one certain face.
        usable: Images rated 5: the character, free of artefacts and as asked for.
        identity: Mean identity similarity of those with one face; NaN of none.
        adherence: Mean CLIP similarity with the prompt, the trigger word left out.
        quality: Mean quality, where it could be scored; NaN of none.
        rating: Mean rating.
        diversity: Vendi score: the effective number of different images.
        memorised: Images whose nearest training image is as near as a near-duplicate.
        distances: Quantiles of the distance to the nearest training image.
    """

    images: int
    consistency: Share
    artefacts: Share
    one_face: Share
    usable: Share
    identity: float
    adherence: float
    quality: float
    rating: float
    diversity: float
    memorised: Share
    distances: Mapping[str, float]

    def as_mapping(self) -> dict[str, Any]:
        """Return the figures as JSON knows them."""
        shares = ("consistency", "artefacts", "one_face", "usable", "memorised")
        numbers = ("identity", "adherence", "quality", "rating", "diversity")
        return {
            "pictures": self.images,
            **{name: getattr(self, name).as_mapping() for name in shares},
            **{name: _finite(getattr(self, name)) for name in numbers},
            "nearest_training_distance": dict(self.distances),
        }


@dataclass(frozen=True)
class Targets:
    """What figures should reach; what misses one is told with advice."""

    consistency: float = 0.95
    """At least."""
    artefacts: float = 0.08
    """At most."""
    leakage: float = 0.10
    """At most; the base model's own leakage, where that is more."""
    adherence_loss: float = 0.05
    """Most that the mean adherence may lie below the base model's."""
    memorised: float = 0.05
    """At most."""
    diversity: float = 0.5
    """At least this share of the base model's Vendi score."""


@dataclass(frozen=True)
class Summary:
    """The figures of one LoRA file beside those of its base model.

    Attributes:
        trigger: Images with the LoRA and the trigger word.
        of_class: Images with the LoRA and the class word alone.
        base: Images of the base model with the plain description.
        base_of_class: Images of the base model with the class word alone.
        grid: Images of the seed document's prompts with the trigger word.
    """

    trigger: SeriesFigures
    of_class: SeriesFigures | None = None
    base: SeriesFigures | None = None
    base_of_class: SeriesFigures | None = None
    grid: SeriesFigures | None = None

    @property
    def leakage(self) -> Share | None:
        """Images of the class word, without the trigger, that pass for the character."""
        return self.of_class.consistency if self.of_class else None

    @property
    def base_leakage(self) -> Share | None:
        """The same of the base model: chance."""
        return self.base_of_class.consistency if self.base_of_class else None

    @property
    def score(self) -> float:
        """What LoRA files are ranked by: share of usable images x (1 - leakage)."""
        leakage = self.leakage.value if self.leakage and self.leakage.total else 0.0
        return self.trigger.usable.value * (1 - leakage)

    def as_mapping(self) -> dict[str, Any]:
        """Return the figures as JSON knows them."""
        series = ("trigger", "of_class", "base", "base_of_class", "grid")
        found = {name: getattr(self, name) for name in series}
        return {
            "score": _finite(self.score),
            "leakage": self.leakage.as_mapping() if self.leakage else None,
            "base_leakage": self.base_leakage.as_mapping() if self.base_leakage else None,
            "series": {name: f.as_mapping() for name, f in found.items() if f is not None},
        }


def judged(table: pl.DataFrame, threshold: float, adherence_floor: float) -> pl.DataFrame:
    """Add ``is_character``, ``as_asked``, ``rating`` and ``rating_name`` to measured images.

    Args:
        table: With the columns of :func:`.images.compared`.
        threshold: Least identity similarity of the character.
        adherence_floor: Least adherence that counts as what was asked for.
    """
    known = passes(_column(table, "identity_similarity"), threshold)
    asked = _column(table, "adherence") >= adherence_floor
    clean = ~table["artefact"].to_numpy()
    rated = ratings(table["one_face"].to_numpy(), known, clean, asked)
    return table.with_columns(
        pl.Series("is_character", known),
        pl.Series("as_asked", asked),
        pl.Series("rating", rated, pl.Int8),
        pl.Series("rating_name", [RATINGS[int(r)] for r in rated], pl.String),
    )


def summarise(images: Measured, duplicates: float = DUPLICATE_SIMILARITY) -> SeriesFigures:
    """Return the figures of one series.

    Args:
        images: Measured and judged.
        duplicates: Cosine from which on two images count as one.
    """
    table = images.table
    distance = _column(table, "nearest_distance")
    return SeriesFigures(
        images=table.height,
        consistency=Share.of(table["is_character"].to_numpy()),
        artefacts=Share.of(table["artefact"].to_numpy()),
        one_face=Share.of(table["one_face"].to_numpy()),
        usable=Share.of(table["rating"].to_numpy() == 5),
        identity=_mean(table, "identity_similarity"),
        adherence=_mean(table, "adherence"),
        quality=_mean(table, "quality"),
        rating=_mean(table, "rating"),
        diversity=vendi_score(images.embeddings),
        memorised=Share.of(near_duplicates(distance, duplicates)),
        distances=quantiles(distance),
    )


def near_duplicates(
    distance: FloatArray, duplicates: float = DUPLICATE_SIMILARITY
) -> NDArray[np.bool_]:
    """Return which distances to the nearest image are those of near-duplicates."""
    return np.asarray(np.nan_to_num(distance, nan=np.inf) <= 1.0 - duplicates + 1e-6)


def training_distances(embeddings: NDArray[np.float32]) -> dict[str, float]:
    """Return quantiles of every training image's distance to its nearest other one.

    Evaluated images that are much nearer to the training set than it is to itself are copies.
    """
    return quantiles(nearest(embeddings, embeddings, same=True)[1])


def adherence_floor(base: pl.DataFrame | None, quantile: float = 0.1) -> float:
    """Return the adherence that nine in ten of the base model's own images reach."""
    if base is None or not base.height:
        return float("-inf")
    return float(np.quantile(_column(base, "adherence"), quantile))


def _column(table: pl.DataFrame, name: str) -> FloatArray:
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _mean(table: pl.DataFrame, name: str) -> float:
    values = _column(table, name)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
