"""Tags: which of the categories that a person names an image belongs to, by what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..analysis.embeddings import text_vectors
from ..imageset import ImageSet

if TYPE_CHECKING:
    from ..analysis.embeddings import Embedder
    from ..features import FeatureStore


def tag(
    images: ImageSet,
    categories: Mapping[str, str],
    embedder: Embedder,
    store: FeatureStore | None = None,
) -> ImageSet:
    """Give every embedded image the category whose text lies closest to it (zero-shot).

    Adds ``tag``; ``tag_similarity``, the cosine of image and text; and ``tag_margin``, by how much
    that is more than that of the next category. All are null for images without an embedding.

    Args:
        images: With ``embedding``.
        categories: The text that describes each; without any nothing is added.
        embedder: The model that made the embeddings.
        store: Remembers the texts' embeddings.

    Raises:
        MissingColumnError: The images are not embedded.
    """
    if not categories:
        return images
    images.require("embedding", "'embed'")
    usable = images.table["embedding"].is_not_null()
    rows = np.flatnonzero(usable.to_numpy())
    names = list(categories)
    tags: list[str | None] = [None] * len(images)
    similarity: list[float | None] = [None] * len(images)
    margin: list[float | None] = [None] * len(images)
    if len(rows):
        texts = text_vectors(list(categories.values()), embedder, store)
        cosine = images.filter(usable).embeddings() @ texts.T
        order = np.argsort(-cosine, axis=1, kind="stable")
        for row, values, best in zip(rows, cosine, order, strict=True):
            tags[row] = names[best[0]]
            similarity[row] = float(values[best[0]])
            margin[row] = None if len(best) < 2 else float(values[best[0]] - values[best[1]])
    return images.with_columns(
        pl.Series("tag", tags, dtype=pl.String),
        pl.Series("tag_similarity", similarity, dtype=pl.Float64),
        pl.Series("tag_margin", margin, dtype=pl.Float64),
    )


def text_of(categories: str) -> dict[str, str]:
    """Read categories from lines ``name = text``; a line without ``=`` is name and text in one.

    Empty lines are left out.
    """
    found = {}
    for line in filter(None, map(str.strip, categories.splitlines())):
        name, _, text = line.partition("=")
        found[name.strip()] = text.strip() or name.strip()
    return found
