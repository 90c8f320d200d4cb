"""Near-duplicates: pairs of images whose embeddings are almost the same."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..defaults import DUPLICATE_SIMILARITY
from ..errors import CuratorError
from ..imageset import ImageSet

IntArray = NDArray[np.int64]

MAX_PAIRS = 20_000_000
_COMPONENTS = 48
_BLOCK = 1024
_WIDE = 16_384


class TooManyDuplicatesError(CuratorError):
    """Nearly everything is a duplicate of everything."""

    def __init__(self, threshold: float) -> None:
        super().__init__(
            f"More than {MAX_PAIRS:,} pairs of images are at least {threshold:g} alike. Raise "
            "the duplicate threshold, or use an embedding that tells these images apart."
        )


def similar_pairs(
    embeddings: NDArray[np.floating], threshold: float = DUPLICATE_SIMILARITY
) -> IntArray:
    """Find all pairs of rows with a cosine similarity of at least ``threshold``, exactly.

    Rows are turned into their principal components. The distance in the first few can only be
    smaller than the whole distance, so blocks of rows are compared in those, rows far apart in the
    very first one not at all, and only what remains in full. Memory is bounded by the block size.

    Args:
        embeddings: Shape ``(n, d)``; rows are normalised first.
        threshold: In (0, 1].

    Returns:
        Row numbers, shape ``(m, 2)``, the smaller first, in lexicographic order.

    Raises:
        TooManyDuplicatesError: There are more than :data:`MAX_PAIRS`.
    """
    x = np.asarray(embeddings, dtype=np.float32)
    if len(x) < 2:
        return np.zeros((0, 2), np.int64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    components = _principal_components(x)
    order = np.argsort(components[:, 0], kind="stable")
    x, components = x[order], components[order]
    squares = (components**2).sum(axis=1)
    # |a - b|^2 = 2 - 2 cos; the margin covers rounding in float32.
    reach = max(2.0 - 2.0 * threshold, 0.0) + 1e-4
    found: list[IntArray] = []
    count = 0
    for start in range(0, len(x), _BLOCK):
        stop = min(start + _BLOCK, len(x))
        limit = components[stop - 1, 0] + np.sqrt(reach)
        end = int(np.searchsorted(components[:, 0], limit, side="right"))
        for left in range(start, end, _WIDE):
            right = min(left + _WIDE, end)
            # |a - b|^2 <= reach  <=>  a.b >= (|a|^2 + |b|^2 - reach) / 2
            dots = components[start:stop] @ components[left:right].T
            dots -= squares[None, left:right] / 2
            near, far = np.nonzero(dots >= (squares[start:stop, None] - reach) / 2)
            near, far = near + start, far + left
            ahead = near < far
            near, far = near[ahead], far[ahead]
            for pair in _confirmed(x, near, far, threshold):
                count += len(pair)
                if count > MAX_PAIRS:
                    raise TooManyDuplicatesError(threshold)
                found.append(pair)
    pairs = np.sort(order[np.concatenate(found)], axis=1) if found else np.zeros((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _confirmed(
    x: NDArray[np.float32], near: IntArray, far: IntArray, threshold: float
) -> list[IntArray]:
    """Keep the candidate pairs whose full similarity suffices."""
    kept = []
    for start in range(0, len(near), _WIDE):
        a, b = near[start : start + _WIDE], far[start : start + _WIDE]
        cosine = np.einsum("ij,ij->i", x[a], x[b], dtype=np.float64)
        enough = cosine >= threshold - 1e-6
        kept.append(np.stack([a[enough], b[enough]], axis=1))
    return kept


def _principal_components(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn rows so that the first columns hold most of what tells them apart."""
    sample = x[np.unique(np.linspace(0, len(x) - 1, 20_000).astype(int))]
    centred = sample - sample.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return (x @ axes[:, ::-1][:, :_COMPONENTS].astype(np.float32)).astype(np.float32)


def duplicate_pairs(
    images: ImageSet, threshold: float = DUPLICATE_SIMILARITY, *, also: IntArray | None = None
) -> IntArray:
    """Find the pairs of accepted images of which at most one should be taken.

    Two images are a pair when their embeddings are at least ``threshold`` alike, or their files
    are equal. Pairs do not chain: a and c are none just because both are near b.

    Args:
        images: With ``embedding``.
        threshold: Cosine similarity from which on two images count as one.
        also: Pairs that are known otherwise, such as those of :func:`.copies.copy_pairs`.

    Returns:
        Row positions in ``images``, shape ``(m, 2)``, the smaller first.

    Raises:
        MissingColumnError: The images are not embedded.
        TooManyDuplicatesError: The threshold is too low for these images.
    """
    images.require("embedding", "'embed'")
    usable = images.accepted_mask() & images.table["embedding"].is_not_null().to_numpy()
    rows = np.flatnonzero(usable)
    vectors = images.filter(pl.Series(usable)).embeddings() if len(rows) else np.zeros((0, 1))
    pairs = rows[similar_pairs(vectors, threshold)]
    known = np.zeros((0, 2), np.int64) if also is None else also
    return np.unique(np.concatenate([pairs, _equal_files(images), known]), axis=0)


def _equal_files(images: ImageSet) -> IntArray:
    table = images.table.with_row_index("row").filter(
        pl.col("rejection").is_null() & pl.col("hash").is_not_null()
    )
    groups = table.group_by("hash").agg("row").filter(pl.col("row").list.len() > 1)["row"]
    pairs = [
        np.stack([rows[a], rows[b]], axis=1)
        for rows in (np.sort(np.array(group.to_list(), dtype=np.int64)) for group in groups)
        for a, b in [np.triu_indices(len(rows), 1)]
    ]
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def find_duplicates(
    images: ImageSet, threshold: float = DUPLICATE_SIMILARITY, *, pairs: IntArray | None = None
) -> ImageSet:
    """Number the groups of near-duplicates; adds ``duplicate_group``, null for unique images.

    The best image (by ``quality``, then by position) that is in no group leads one, and takes
    every near-duplicate of *itself* that is in none: groups do not chain. Nothing is rejected:
    which of a group is taken is decided by the selection, that knows the quotas.

    Args:
        images: With ``embedding``.
        threshold: Cosine similarity from which on two images count as one.
        pairs: What :func:`duplicate_pairs` found in ``images`` at this threshold, where it is
            known already; ``images`` then needs no embeddings.

    Raises:
        MissingColumnError: The images are not embedded.
        TooManyDuplicatesError: The threshold is too low for these images.
    """
    if pairs is None:
        pairs = duplicate_pairs(images, threshold)
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    worth = np.zeros(len(images))
    if "quality" in images.table.columns:
        worth = images.table["quality"].fill_null(0.0).to_numpy()
    group: list[int | None] = [None] * len(images)
    number = 0
    for leader in sorted(neighbours, key=lambda row: (-worth[row], row)):
        if group[leader] is not None:
            continue
        members = [row for row in neighbours[leader] if group[row] is None]
        if not members:
            continue  # all of its near-duplicates went with better ones
        for row in [leader, *members]:
            group[row] = number
        number += 1
    return images.with_columns(pl.Series("duplicate_group", group, dtype=pl.Int32))
