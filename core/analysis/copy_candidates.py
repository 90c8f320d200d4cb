"""Pairs of images that may be copies of each other: those that are coarsely alike.

Each image is a few vectors of mean 0 and length 1: the whole of it first, then parts of it. A pair
is worth a look where the whole of one correlates with any vector of the other. Vectors are
compared in their principal components first: what is left over can only add the product of the two
remainders' lengths, so that no pair is lost. Memory is bounded by the blocks, not by the images.

Above :data:`NEIGHBOURS` images each is compared with its neighbours alone, in the order of the
first principal component of all of them; and of more than :data:`LOOKS` pairs those most alike
are kept. Both are said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

log = logging.getLogger(__name__)

NEIGHBOURS = 20_000
"""Up to so many images all are compared with all; above, each with half as many on either side."""
LOOKS = 500_000
"""The most pairs that are looked at in detail, at some thousandths of a second each."""
_COMPONENTS = 32
_ROWS, _COLUMNS = 128, 2048
_SAMPLE = 4096


def coarse_candidates(
    wholes: FloatArray,
    windows_of: Callable[[int], FloatArray],
    mirrored: Callable[[FloatArray], FloatArray],
    least: float,
    *,
    neighbours: int = NEIGHBOURS,
    looks: int = LOOKS,
) -> list[tuple[int, int, bool]]:
    """Return the pairs worth a look, and whether the first one is mirrored then.

    Args:
        wholes: The first vector of each image, shape ``(n, d)``.
        windows_of: Returns all vectors of an image, shape ``(w, d)``.
        mirrored: Returns vectors of mirrored images.
        least: The least correlation.
        neighbours: See :data:`NEIGHBOURS`.
        looks: See :data:`LOOKS`.

    Returns:
        Positions, the smaller first, sorted.
    """
    count = len(wholes)
    turned = mirrored(wholes)
    order = _order(wholes + turned) if count > neighbours else np.arange(count)
    wholes, turned = wholes[order], turned[order]
    basis = _basis(wholes)
    sides = [(False, wholes, _projected(wholes, basis)), (True, turned, _projected(turned, basis))]
    found = _Best(looks)
    reach = count if count <= neighbours else neighbours // 2
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        windows = np.stack([windows_of(int(k)) for k in order[start:stop]])
        few = _projected(windows.reshape(-1, windows.shape[-1]), basis)
        first, last = max(0, start - reach), min(count, stop + reach)
        for left in range(first, last, _COLUMNS):
            right = min(left + _COLUMNS, last)
            for is_turned, side, short in sides:
                bound = (short[left:right] @ few.T).reshape(right - left, stop - start, -1)
                near, far = np.nonzero(bound.max(axis=2) >= least - 1e-4)
                for a, b, likeness in _confirmed(side, left, near, windows, far):
                    keep = (likeness >= least) & (a != b + start)
                    found.add(order[a[keep]], order[b[keep] + start], is_turned, likeness[keep])
    if count > neighbours:
        log.warning(
            "Of %s images each was compared with the %s that are coarsely most like it, to find "
            "copies; up to %s all are compared with all.",
            f"{count:,}", f"{neighbours:,}", f"{neighbours:,}",
        )  # fmt: skip
    return found.pairs()


def _confirmed(
    side: FloatArray, left: int, near: IntArray, windows: FloatArray, far: IntArray
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Yield rows of one side, positions in a block, and how alike they are in full."""
    for start in range(0, len(near), _COLUMNS):
        a, b = near[start : start + _COLUMNS] + left, far[start : start + _COLUMNS]
        yield a, b, np.einsum("nd,nwd->nw", side[a], windows[b]).max(axis=1)


def _order(vectors: FloatArray) -> IntArray:
    """Return positions in the order of the first principal component."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.argsort(vectors @ axes[:, -1].astype(np.float32), kind="stable")


def _basis(vectors: FloatArray) -> FloatArray:
    """Return the directions in which vectors differ most, as columns of length 1."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, -_COMPONENTS:]).astype(np.float32)


def _projected(vectors: FloatArray, basis: FloatArray) -> FloatArray:
    """Return vectors in few directions, and the length of what is left over."""
    few = vectors @ basis
    rest = np.maximum((vectors**2).sum(axis=1) - (few**2).sum(axis=1), 0.0)
    return np.column_stack([few, np.sqrt(rest)]).astype(np.float32)


class _Best:
    """Keeps the pairs that are most alike, so many of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys = np.zeros((0, 3), np.int64)
        self._likeness = np.zeros(0, np.float32)
        self._waiting: list[tuple[IntArray, FloatArray]] = []
        self._held = 0
        self._lost = False

    def add(self, one: IntArray, other: IntArray, turned: bool, likeness: FloatArray) -> None:
        """Add pairs of positions."""
        if not len(one):
            return
        sides = np.minimum(one, other), np.maximum(one, other), np.full(len(one), turned)
        self._waiting.append((np.column_stack(sides).astype(np.int64), likeness))
        self._held += len(one)
        if self._held > 4 * self._most:
            self._cut()

    def pairs(self) -> list[tuple[int, int, bool]]:
        """Return what is kept, sorted."""
        self._cut()
        if self._lost:
            log.warning(
                "More than %s pairs of images are coarsely alike: those most alike were looked at, "
                "to find copies.", f"{self._most:,}",
            )  # fmt: skip
        return [(a, b, bool(turned)) for a, b, turned in self._keys.tolist()]

    def _cut(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        likeness = np.concatenate([self._likeness, *(value for _, value in self._waiting)])
        self._waiting, self._held = [], 0
        order = np.lexsort((-likeness, keys[:, 2], keys[:, 1], keys[:, 0]))
        keys, likeness = keys[order], likeness[order]
        new = np.ones(len(keys), bool)  # a pair is found from both sides
        new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        keys, likeness = keys[new], likeness[new]
        if len(keys) > self._most:
            self._lost = True
            best = np.sort(np.argsort(-likeness, kind="stable")[: self._most])
            keys, likeness = keys[best], likeness[best]
        self._keys, self._likeness = keys, likeness
