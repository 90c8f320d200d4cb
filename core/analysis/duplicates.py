"""Near-duplicates: pairs of images whose embeddings are almost the same."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..counts import how_many
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


class TooManyEqualFilesError(CuratorError):
    """One file is there thousands of times."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__(
            f"{how_many(count, 'file is', 'files are')} the same to the byte as {path}. One of "
            "them can be chosen at most: take the others away, and run again."
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


def duplicate_pairs(images: ImageSet, threshold: float = DUPLICATE_SIMILARITY) -> IntArray:
    """Find the pairs of accepted images of which at most one should be taken.

    Two images are a pair when their embeddings are at least ``threshold`` alike, or their files
    are equal. Pairs do not chain: a and c are none just because both are near b.

    Args:
        images: With ``embedding``.
        threshold: Cosine similarity from which on two images count as one.

    Returns:
        Row positions in ``images``, shape ``(m, 2)``, the smaller first.

    Raises:
        MissingColumnError: The images are not embedded.
        TooManyDuplicatesError: The threshold is too low for these images.
        TooManyEqualFilesError: One file is there thousands of times.
    """
    images.require("embedding", "'embed'")
    usable = images.accepted_mask() & images.table["embedding"].is_not_null().to_numpy()
    rows = np.flatnonzero(usable)
    equal = _equal_files(images)
    vectors = images.filter(pl.Series(usable)).embeddings() if len(rows) else np.zeros((0, 1))
    return joined_pairs(rows[similar_pairs(vectors, threshold)], equal)


def joined_pairs(*found: IntArray) -> IntArray:
    """Return pairs from several places as one list: each once, in lexicographic order.

    Args:
        found: Pairs of positions, shape ``(m, 2)``, the smaller first.
    """
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *found])
    size = int(pairs.max(initial=0)) + 1
    return np.stack(np.divmod(np.unique(pairs[:, 0] * size + pairs[:, 1]), size), axis=1)


def _equal_files(images: ImageSet) -> IntArray:
    table = images.table.with_row_index("row").filter(
        pl.col("rejection").is_null() & pl.col("hash").is_not_null()
    )
    groups = table.group_by("hash").agg("row").filter(pl.col("row").list.len() > 1)["row"]
    counts = groups.list.len().cast(pl.Int64)
    if (counts * (counts - 1) // 2).sum() > MAX_PAIRS:
        largest = groups[int(counts.arg_max() or 0)]
        raise TooManyEqualFilesError(images.table["path"][largest[0]], len(largest))
    pairs = [every_pair(np.sort(np.array(group.to_list(), np.int64))) for group in groups]
    return joined_pairs(*pairs)


def every_pair(rows: IntArray) -> IntArray:
    """Return every pair of ascending positions, shape ``(m, 2)``."""
    first, second = np.triu_indices(len(rows), 1)
    return np.stack([rows[first], rows[second]], axis=1)


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
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.searchsorted(both[:, 0], np.arange(len(images) + 1))
    worth = np.zeros(len(images))
    if "quality" in images.table.columns:
        worth = images.table["quality"].fill_null(0.0).to_numpy()
    group = np.full(len(images), -1, np.int32)
    number = 0
    for leader in np.lexsort((np.arange(len(images)), -worth)):
        near = both[starts[leader] : starts[leader + 1], 1]
        members = near[group[near] < 0]
        if group[leader] < 0 and len(members):  # else all of them went with better ones
            group[leader] = group[members] = number
            number += 1
    numbers = pl.Series("duplicate_group", group).replace(-1, None)
    return images.with_columns(numbers)
