"""Whose face it is: similarity to reference images, or to the set's own centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
_ROUNDS = 50


def normalised(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def mean_identity(vectors: FloatArray) -> FloatArray:
    """Return the normalised mean of normalised vectors, shape ``(d,)``."""
    return normalised(normalised(vectors).mean(axis=0))


@dataclass(frozen=True)
class References:
    """Whom faces are compared with.

    Attributes:
        mean: The normalised mean of the references, shape ``(d,)``.
        each: The references themselves where they are compared one by one as well, shape
            ``(n, d)``.
    """

    mean: FloatArray
    each: FloatArray | None = None

    @staticmethod
    def of(vectors: FloatArray, *, single: bool) -> References:
        """Take the identities of reference images; ``single`` compares with each of them too."""
        several = single and len(vectors) > 1
        return References(mean_identity(vectors), normalised(vectors) if several else None)

    @staticmethod
    def centre(vector: FloatArray) -> References:
        """Take one vector for whom it is."""
        return References(vector)

    def similarity(self, vectors: FloatArray) -> FloatArray:
        """Return the cosine similarity of each of some normalised vectors, shape ``(n,)``.

        Of several references it is half that to their mean and half that to the nearest of them:
        a profile finds the profile, and no single odd reference lets a stranger in.
        """
        near = vectors @ self.mean
        if self.each is None:
            return np.asarray(near)
        return np.asarray((near + (vectors @ self.each.T).max(axis=1)) / 2, dtype=np.float32)


def robust_centroid(vectors: FloatArray, keep: float = 0.5, sample: int = 2000) -> FloatArray:
    """Return the centre of the majority: a trimmed mean that strangers do not move.

    It starts at the vector whose median similarity to the others is greatest, and repeats: take
    the mean of the ``keep`` share that lies closest, until that share no longer changes.

    Args:
        vectors: Shape ``(n, d)``, n >= 1.
        keep: The share of vectors that the mean is taken of.
        sample: At most this many vectors, evenly spaced, are compared for the start.

    Returns:
        A normalised vector, shape ``(d,)``.
    """
    vectors = normalised(vectors)
    chosen = vectors[np.unique(np.linspace(0, len(vectors) - 1, sample).astype(int))]
    start = int(np.argmax(np.median(chosen @ chosen.T, axis=1)))
    centre = chosen[start]
    count = max(1, int(np.ceil(keep * len(vectors))))
    kept: NDArray[np.int64] | None = None
    for _ in range(_ROUNDS):
        closest = np.sort(np.argsort(-(vectors @ centre), kind="stable")[:count])
        if kept is not None and np.array_equal(closest, kept):
            break
        kept = closest
        centre = mean_identity(vectors[kept])
    return centre
