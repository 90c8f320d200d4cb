"""How diverse a set of embeddings is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vendi_score(embeddings: NDArray[np.floating]) -> float:
    """Return the Vendi score: the effective number of different images.

    The exponential of the Shannon entropy of the eigenvalues of ``K / n``, where ``K`` holds the
    cosine similarities (Friedman and Dieng, "The Vendi Score", 2023). The eigenvalues are taken of
    the smaller of the two Gram matrices, whose non-zero ones agree.

    Args:
        embeddings: Shape ``(n, d)``; rows are normalised first.

    Returns:
        A number from 1 (all alike) to n (all orthogonal); 0 for no images.
    """
    x = _unit_rows(embeddings)
    if not len(x):
        return 0.0
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    eigenvalues = np.clip(np.linalg.eigvalsh(gram / len(x)), 0.0, None)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def mean_pairwise_distance(embeddings: NDArray[np.floating]) -> float:
    """Return the mean cosine distance (1 - cosine) over all pairs of rows; 0 below two rows."""
    x = _unit_rows(embeddings)
    n = len(x)
    if n < 2:
        return 0.0
    total = x.sum(axis=0)
    # The squared length of the sum holds every ordered pair, and every row with itself.
    pairs = float(total @ total) - float((x * x).sum())
    return 1.0 - pairs / (n * (n - 1))


def _unit_rows(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    x = np.asarray(embeddings, dtype=np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
