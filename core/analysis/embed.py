"""The stage that embeds images: what the store lacks, in one pass over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..imageset import ImageSet
from ..progress import Progress, silent
from .embeddings import ANALYSER, Embedder
from .sweep import sweep

if TYPE_CHECKING:
    from ..features import FeatureStore


def embed(
    images: ImageSet, embedder: Embedder, store: FeatureStore, progress: Progress = silent
) -> ImageSet:
    """Embed the accepted images; adds ``embedding``, null for rejected ones.

    Args:
        images: The candidates.
        embedder: The model.
        store: Where embeddings are kept; only what it lacks is computed.
        progress: Watches.

    Raises:
        ClipModelError: The model is unknown, missing or broken.
    """
    images = sweep(images, store, embedder=embedder, stage="Embedding", progress=progress)
    hashes = images.table["hash"].to_list()
    found = store.get([key for key in hashes if key], ANALYSER, embedder.fingerprint)
    accepted = images.accepted_mask()
    return images.with_columns(
        pl.Series(
            "embedding",
            [found.get(key) if key and accepted[i] else None for i, key in enumerate(hashes)],
            dtype=pl.Binary,
        )
    )
