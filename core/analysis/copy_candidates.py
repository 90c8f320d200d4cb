"""Pairs of images that may be copies of each other: those that are coarsely alike.

Each image is a few vectors of mean 0 and length 1: the whole of it first, then parts of it. A pair
is worth a look where the whole of one correlates with any vector of the other. Two cheap bounds go
before that, neither of which loses a pair. The vectors of an image lie in a few narrow cones: what
is farther from the axis of each than its half angle and that of the least correlation together is
like none of them. And vectors are compared in their principal components first: what is left over
can only add the product of the two remainders' lengths. Memory is bounded by the blocks, and
takes some 250 bytes an image beside the vectors that it is given.

Above :data:`NEIGHBOURS` images each is compared with its neighbours alone, in the order of the
first principal component of all of them; and of more than :data:`LOOKS` pairs those most alike
are kept. Both are said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..counts import how_many

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

log = logging.getLogger(__name__)

NEIGHBOURS = 20_000
"""Up to so many images all are compared with all; above, each with half as many on either side."""
LOOKS = 500_000
"""The most pairs that are kept: some hundredths of a millisecond each, and some milliseconds where
their colors are the same."""
_COMPONENTS = 32
_CONES = 3
_ROWS, _COLUMNS = 128, 8192
_SAMPLE = 4096
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Candidates:
    """Pairs worth a look, and where they are most alike; all arrays have shape ``(n,)``.

    Attributes:
        first: Position of the one.
        second: Position of the other, which is larger.
        mirrored: Whether the first one is mirrored then.
        of_first: Whether the whole of the second is like a vector of the first, or otherwise.
        vector: Which vector that is.
    """

    first: IntArray
    second: IntArray
    mirrored: BoolArray
    of_first: BoolArray
    vector: IntArray

    def __len__(self) -> int:
        return len(self.first)


def coarse_candidates(
    wholes: FloatArray,
    windows_of: Callable[[int], FloatArray],
    mirrored: Callable[[FloatArray], FloatArray],
    least: float,
    *,
    neighbours: int = NEIGHBOURS,
    looks: int = LOOKS,
    known: IntArray | None = None,
) -> Candidates:
    """Return the pairs worth a look, sorted.

    Args:
        wholes: The first vector of each image, shape ``(n, d)``.
        windows_of: Returns all vectors of an image, shape ``(w, d)``. It is called once for each,
            though in another order.
        mirrored: Returns vectors of mirrored images.
        least: The least correlation.
        neighbours: See :data:`NEIGHBOURS`.
        looks: See :data:`LOOKS`.
        known: Pairs of positions, shape ``(k, 2)``, the smaller first, that are left out.
    """
    count = len(wholes)
    order = _order(wholes, mirrored) if count > neighbours else np.arange(count)
    basis = _basis(wholes)
    sides = [
        (False, _projected(wholes, basis)[order]),
        (True, _projected(wholes, mirrored(basis.T).T)[order]),
    ]
    found = _Best(looks, least, count, np.zeros((0, 2), np.int64) if known is None else known)
    reach = count if count <= neighbours else neighbours // 2
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        windows = np.stack([windows_of(int(k)) for k in order[start:stop]])
        few = _projected(windows.reshape(-1, windows.shape[-1]), basis)
        few = few.reshape(stop - start, -1, few.shape[-1])
        axes, angles = _cones(windows)
        axes = _projected(axes.reshape(-1, axes.shape[-1]), basis)
        bounds = _least_along(angles, found.least).reshape(-1, 1)
        first, last = max(0, start - reach), min(count, stop + reach)
        for left in range(first, last, _COLUMNS):
            right = min(left + _COLUMNS, last)
            for is_turned, short in sides:
                inside = axes @ short[left:right].T >= bounds
                inside = inside.reshape(stop - start, -1, right - left).any(axis=1)
                for b in range(stop - start):
                    a = np.flatnonzero(inside[b]) + left
                    bound = (short[a] @ few[b].T).max(axis=1, initial=-1.0)
                    a = a[(bound >= found.least - _ROUNDING) & (a != b + start)]
                    if not len(a):
                        continue
                    whole = wholes[order[a]]
                    likeness = (mirrored(whole) if is_turned else whole) @ windows[b].T
                    found.add(order[a], int(order[b + start]), is_turned, likeness)
    if count > neighbours:
        log.warning(
            "Of %s each was compared with the %s that are coarsely most like it, to find "
            "copies; up to %s all are compared with all.",
            how_many(count, "image"), f"{neighbours:,}", f"{neighbours:,}",
        )  # fmt: skip
    return found.candidates()


def _cones(windows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return narrow cones in which the vectors of each image lie.

    Args:
        windows: Vectors of length 1, shape ``(n, w, d)``.

    Returns:
        Axes of length 1, shape ``(n, c, d)``, and half angles in radians, shape ``(n, c)``. The
        first one begins with the first vector, each other one with the vector that is farthest
        from those before.
    """
    rows = np.arange(len(windows))
    alike = windows @ windows.transpose(0, 2, 1)
    seeds = alike[:, :1]
    for _ in range(min(_CONES, windows.shape[1]) - 1):
        farthest = seeds.max(axis=1).argmin(axis=1)
        seeds = np.concatenate([seeds, alike[rows, farthest][:, np.newaxis]], axis=1)
    member = seeds.argmax(axis=1)[:, np.newaxis] == np.arange(seeds.shape[1])[:, np.newaxis]
    axes = member.astype(np.float32) @ windows
    axes /= np.maximum(np.linalg.norm(axes, axis=2, keepdims=True), 1e-6)
    along = np.where(member, axes @ windows.transpose(0, 2, 1), 1.0).min(axis=2)
    return axes, np.arccos(np.clip(along, -1.0, 1.0))


def _least_along(angles: FloatArray, least: float) -> FloatArray:
    """Return how much of a vector that is like any of a cone lies along its axis at least."""
    wide = np.minimum(angles + np.arccos(min(least, 1.0)), np.pi)
    return np.asarray(np.cos(wide) - _ROUNDING, np.float32)


def _order(wholes: FloatArray, mirrored: Callable[[FloatArray], FloatArray]) -> IntArray:
    """Return positions in the order of the first principal component, mirrored or not."""
    sample = wholes[:: max(1, len(wholes) // _SAMPLE)]
    both = (sample + mirrored(sample)).astype(np.float64)
    _, axes = np.linalg.eigh(both.T @ both)
    axis = axes[:, -1:].T.astype(np.float32)
    return np.argsort(wholes @ (axis + mirrored(axis))[0], kind="stable")


def _basis(vectors: FloatArray) -> FloatArray:
    """Return the directions in which vectors differ most, as columns of length 1."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(axes[:, -_COMPONENTS:]).astype(np.float32)


def _projected(vectors: FloatArray, basis: FloatArray) -> FloatArray:
    """Return vectors in few directions, and the length of what is left over."""
    few = vectors @ basis
    rest = np.einsum("nd,nd->n", vectors, vectors) - np.einsum("nd,nd->n", few, few)
    return np.column_stack([few, np.sqrt(np.maximum(rest, 0.0))]).astype(np.float32)


class _Best:
    """Keeps the pairs that are most alike, so many of them.

    Attributes:
        least: What another pair must have at least to be kept.
    """

    def __init__(self, most: int, least: float, count: int, known: IntArray) -> None:
        self.least = least
        self._most = most
        self._count = count
        self._known = np.unique(known[:, 0] * count + known[:, 1])
        self._keys = np.zeros((0, 5), np.int32)
        self._likeness = np.zeros(0, np.float32)
        self._waiting: list[tuple[NDArray[np.int32], FloatArray]] = []
        self._held = 0
        self._lost = False

    def add(self, whole: IntArray, of: int, mirrored: bool, likeness: FloatArray) -> None:
        """Add the pairs of some images with the vectors of another; shape of all: ``(n, w)``."""
        vector = likeness.argmax(axis=1)
        best = likeness[np.arange(len(whole)), vector]
        keep = np.flatnonzero(best >= self.least)
        if len(self._known):
            keys = np.minimum(whole[keep], of) * self._count + np.maximum(whole[keep], of)
            place = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
            keep = keep[self._known[place] != keys]
        if not len(keep):
            return
        whole = whole[keep]
        told = (np.minimum(whole, of), np.maximum(whole, of), np.full(len(keep), mirrored),
                whole < of, vector[keep])  # fmt: skip
        self._waiting.append((np.column_stack(told).astype(np.int32), best[keep]))
        self._held += len(keep)
        if self._held > 2 * self._most:
            self._cut()

    def candidates(self) -> Candidates:
        """Return what is kept, sorted."""
        self._cut()
        if self._lost:
            log.warning(
                "More than %s of images are coarsely alike: those most alike were looked at, "
                "to find copies.", how_many(self._most, "pair"),
            )  # fmt: skip
        first, second, mirrored, of_second, vector = self._keys.astype(np.int64).T
        return Candidates(first, second, mirrored > 0, of_second == 0, vector)

    def _cut(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        likeness = np.concatenate([self._likeness, *(value for _, value in self._waiting)])
        self._waiting, self._held = [], 0
        order = np.lexsort((keys[:, 3], -likeness, keys[:, 2], keys[:, 1], keys[:, 0]))
        keys, likeness = keys[order], likeness[order]
        new = np.ones(len(keys), bool)  # a pair is found from both sides
        new[1:] = (keys[1:, :3] != keys[:-1, :3]).any(axis=1)
        keys, likeness = keys[new], likeness[new]
        if len(keys) > self._most:
            self._lost = True
            best = np.sort(np.argsort(-likeness, kind="stable")[: self._most])
            keys, likeness = keys[best], likeness[best]
            self.least = float(likeness.min())
        self._keys, self._likeness = keys, likeness
