"""Clusters: images that show the same kind of thing, with names that say what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..imageset import ImageSet
from .embeddings import text_vectors
from .familiarity import is_beyond

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .embeddings import Embedder

CLUSTERS = 8
"""The seed-document recipe's number of clusters."""

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
"""What clusters are named after: attributes, each with its labels and their zero-shot prompts.

Pose and framing are taken from the columns that face validation adds, where it has run."""


def cluster(
    images: ImageSet,
    k: int = CLUSTERS,
    random_state: int = 0,
    embedder: Embedder | None = None,
    prompts: Prompts = PROMPTS,
    store: FeatureStore | None = None,
) -> ImageSet:
    """Group the accepted images by KMeans on their embeddings.

    Adds ``cluster`` (0 is the largest) and ``cluster_name``; both are null for rejected images.
    The same images in the same order always give the same clusters.

    Args:
        images: With ``embedding``.
        k: Number of clusters; fewer when there are fewer different images.
        random_state: Seed of KMeans.
        embedder: The model that made the embeddings; its prompts and the columns ``pose`` and
            ``framing`` name the clusters, those columns alone where the embedded model meets
            photographs. Without it they are called ``cluster 0`` and so on.
        prompts: What clusters are named after.
        store: Remembers the prompts' embeddings, so that the model need not load for them again.

    Raises:
        MissingColumnError: The images are not embedded.
    """
    images.require("embedding", "'embed'")
    usable = images.accepted_mask() & images.table["embedding"].is_not_null().to_numpy()
    rows = np.flatnonzero(usable)
    labels: list[int | None] = [None] * len(images)
    names: list[str | None] = [None] * len(images)
    if len(rows):
        vectors = images.filter(pl.Series(usable)).embeddings()
        found = kmeans_labels(vectors, k, random_state)
        if embedder is None:
            called = [f"cluster {label}" for label in range(int(found.max()) + 1)]
        else:
            if is_beyond(images, embedder.model, store):
                prompts = {name: {} for name in prompts}  # it would see a bar in every portrait
            measured = _measured(images, rows)
            called = cluster_names(vectors, found, embedder, prompts, store, measured)
        for row, label in zip(rows, found, strict=True):
            labels[row], names[row] = int(label), called[label]
    return images.with_columns(
        pl.Series("cluster", labels, dtype=pl.Int32),
        pl.Series("cluster_name", names, dtype=pl.String),
    )


def _measured(images: ImageSet, rows: NDArray[np.int64]) -> dict[str, list[str]]:
    """Return the attributes that the landmarks and the face box have already told."""
    columns = {
        name: images.table[name].gather(rows)
        for name in ("pose", "framing")
        if name in images.table.columns
    }
    return {name: values.to_list() for name, values in columns.items() if not values.null_count()}


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
    measured: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Name each cluster after what sets it apart.

    Of every attribute each image has a label: the measured one, or else the one whose prompt
    lies closest (zero-shot). A cluster is named by the labels whose share in it most exceeds their
    share in the whole set, those of half of its images or more first: by one, or by as many as
    it takes to tell it from the others.

    Args:
        vectors: Embeddings, shape ``(n, d)``.
        labels: Their clusters, from 0, shape ``(n,)``.
        embedder: The model that made the embeddings.
        prompts: Attributes, each with its labels and their prompts.
        store: Remembers the prompts' embeddings.
        measured: Attributes whose labels are known, one an image.

    Returns:
        A name a cluster, all different.
    """
    words: list[list[tuple[tuple[bool, float], str]]] = [[] for _ in range(int(labels.max()) + 1)]
    for attribute, choices in prompts.items():
        known = (measured or {}).get(attribute)
        if known is None and not choices:
            continue
        if known is None:
            texts = text_vectors(list(choices.values()), embedder, store)
            names = list(choices)
            known = [names[i] for i in np.argmax(vectors @ texts.T, axis=1)]
        for found, best in zip(words, _standing_out(labels, known), strict=True):
            found.append(best)
    ranked = [sorted(found, key=lambda pair: pair[0], reverse=True) for found in words]
    return unique_names([[word for _, word in found] or ["cluster"] for found in ranked])


def _standing_out(
    labels: NDArray[np.int64], known: Sequence[str]
) -> list[tuple[tuple[bool, float], str]]:
    """Return, for each cluster, how much one attribute stands out in it, and by which label."""
    choices = list(dict.fromkeys(known))
    chosen = np.array([choices.index(word) for word in known])
    overall = np.bincount(chosen, minlength=len(choices)) / len(chosen)
    found = []
    for label in range(int(labels.max()) + 1):
        members = chosen[labels == label]
        share = np.bincount(members, minlength=len(choices)) / len(members)
        best = int(np.argmax(share - overall))
        strength = (bool(share[best] >= 0.5), float(share[best] - overall[best]))
        found.append((strength, choices[best]))
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
