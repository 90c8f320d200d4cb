"""Clusters: pictures that show the same kind of thing, with names that say what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..imageset import ImageSet
from .embeddings import text_vectors

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .embeddings import Embedder

CLUSTERS = 8
"""The published recipe's number of clusters."""

Prompts = Mapping[str, Mapping[str, str]]

_PERSON = "portrait of a person, "
PROMPTS: Prompts = {
    "pose": {
        "frontal": _PERSON + "frontal view",
        "three-quarter": _PERSON + "three-quarter view",
        "profile": _PERSON + "profile view",
    },
    "framing": {
        "close-up": _PERSON + "close-up",
        "bust": _PERSON + "bust",
        "half body": _PERSON + "half body",
        "full body": _PERSON + "full body",
    },
    "lighting": {
        "golden hour": _PERSON + "golden hour lighting",
        "studio light": _PERSON + "studio lighting",
        "dramatic light": _PERSON + "dramatic lighting",
        "soft daylight": _PERSON + "soft daylight",
        "cool evening": _PERSON + "cool evening light",
    },
    "background": {
        "plain background": _PERSON + "neutral background",
        "park": _PERSON + "park background",
        "beach": _PERSON + "beach background",
        "city": _PERSON + "city background",
        "grocery store": _PERSON + "grocery store background",
        "bar": _PERSON + "bar background",
        "magical aura": _PERSON + "magical aura background",
    },
}
"""What clusters are named after: attributes, each with its labels and their zero-shot prompts."""


def cluster(
    images: ImageSet,
    k: int = CLUSTERS,
    random_state: int = 0,
    embedder: Embedder | None = None,
    prompts: Prompts = PROMPTS,
    store: FeatureStore | None = None,
) -> ImageSet:
    """Group the accepted pictures by KMeans on their embeddings.

    Adds ``cluster`` (0 is the largest) and ``cluster_name``; both are null for rejected pictures.
    The same pictures in the same order always give the same clusters.

    Args:
        images: With ``embedding``.
        k: Number of clusters; fewer when there are fewer different pictures.
        random_state: Seed of KMeans.
        embedder: The model that made the embeddings; it names the clusters. Without it they are
            called ``cluster 0`` and so on.
        prompts: What clusters are named after.
        store: Remembers the prompts' embeddings, so that the model need not load for them again.

    Raises:
        MissingColumnError: The pictures are not embedded.
    """
    images.require("embedding", "'embed'")
    usable = images.accepted_mask() & images.table["embedding"].is_not_null().to_numpy()
    rows = np.flatnonzero(usable)
    labels: list[int | None] = [None] * len(images)
    names: list[str | None] = [None] * len(images)
    if len(rows):
        vectors = images.filter(pl.Series(usable)).embeddings()
        found = kmeans_labels(vectors, k, random_state)
        called = (
            cluster_names(vectors, found, embedder, prompts, store)
            if embedder is not None
            else [f"cluster {label}" for label in range(int(found.max()) + 1)]
        )
        for row, label in zip(rows, found, strict=True):
            labels[row], names[row] = int(label), called[label]
    return images.with_columns(
        pl.Series("cluster", labels, dtype=pl.Int32),
        pl.Series("cluster_name", names, dtype=pl.String),
    )


def kmeans_labels(
    vectors: NDArray[np.float32], k: int = CLUSTERS, random_state: int = 0
) -> NDArray[np.int64]:
    """Cluster vectors; labels are ordered by size, the largest first, ties by first member.

    Args:
        vectors: Shape ``(n, d)``, n >= 1; rows are normalised first.
        k: Number of clusters, at most as many as there are different vectors.
        random_state: Seed.

    Returns:
        Labels from 0, shape ``(n,)``.
    """
    from sklearn.cluster import KMeans

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    distinct = len(np.unique(unit, axis=0)) if len(unit) <= 10_000 else len(unit)
    count = max(1, min(k, distinct))
    raw = KMeans(count, random_state=random_state, n_init=10).fit_predict(unit.astype(np.float64))
    values, first, sizes = np.unique(raw, return_index=True, return_counts=True)
    order = sorted(range(len(values)), key=lambda i: (-sizes[i], first[i]))
    renamed = np.empty(int(values.max()) + 1, dtype=np.int64)
    renamed[values[order]] = np.arange(len(order))
    return renamed[raw]


def cluster_names(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    embedder: Embedder,
    prompts: Prompts = PROMPTS,
    store: FeatureStore | None = None,
) -> list[str]:
    """Name each cluster after what sets it apart, by zero-shot classification of its pictures.

    Of every attribute each picture gets the label whose prompt lies closest. A cluster is named by
    the labels whose share in it most exceeds their share in the whole set: by one, or by as many
    as it takes to tell it from the others.

    Returns:
        A name a cluster, all different.
    """
    from_attribute = [
        _lifts(
            vectors, labels, text_vectors(list(choices.values()), embedder, store), list(choices)
        )
        for choices in prompts.values()
        if choices
    ]
    words: list[list[str]] = []
    for label in range(int(labels.max()) + 1):
        ranked = sorted((lifts[label] for lifts in from_attribute), key=lambda pair: -pair[0])
        words.append([word for _, word in ranked] or ["cluster"])
    return unique_names(words)


def _lifts(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    texts: NDArray[np.float32],
    choices: Sequence[str],
) -> list[tuple[float, str]]:
    """Return, for each cluster, the label of one attribute that stands out most, after how much."""
    chosen = np.argmax(vectors @ texts.T, axis=1)
    overall = np.bincount(chosen, minlength=len(choices)) / len(chosen)
    found = []
    for label in range(int(labels.max()) + 1):
        members = chosen[labels == label]
        lift = np.bincount(members, minlength=len(choices)) / len(members) - overall
        best = int(np.argmax(lift))
        found.append((float(lift[best]), choices[best]))
    return found


def unique_names(words: Sequence[Sequence[str]]) -> list[str]:
    """Join as many words of each list as it takes to tell the lists apart; then number them."""
    lengths = [1] * len(words)
    while True:
        names = [", ".join(w[:n]) for w, n in zip(words, lengths, strict=True)]
        shared = {name for name in names if names.count(name) > 1}
        longer = [
            i for i, name in enumerate(names) if name in shared and lengths[i] < len(words[i])
        ]
        if not longer:
            break
        for i in longer:
            lengths[i] += 1
    numbered, seen = [], dict.fromkeys(names, 0)
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return numbered
