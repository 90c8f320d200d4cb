"""How far two small images agree where they are most alike: in their colors, and block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .copy_candidates import BoolArray, Candidates, FloatArray, IntArray
from .small_images import COARSE, SIDE, WINDOWS, Grey, Small, coarse_windows

_BLOCK = 8
_LEAST_BLOCKS = 20
_ALIKE = 0.9
_LEAST_STRUCTURE = 2.5
_COLORED = 4.0
_CHROMA_APART = 8.0
_AT_ONCE = 2048


def agreement_of(first: Small, second: Small) -> float:
    """Return the share of structured blocks in which two small images are the same.

    Args:
        first: Either may be a part of the other, from 90 % on.
        second: Likewise.

    Returns:
        From 0 to 1; 0 where their colors differ, and where there is too little structure to tell,
        unless the images are equal.
    """
    if np.array_equal(first.grey, second.grey) and np.array_equal(first.chroma, second.chroma):
        return 1.0
    windows, others = coarse_windows(first.grey), coarse_windows(second.grey)
    of_first, of_second = windows @ others[0], others @ windows[0]
    is_first = bool(of_first.max() >= of_second.max())
    window = int((of_first if is_first else of_second).argmax())
    large, small = (first, second) if is_first else (second, first)
    colors = np.stack([large.chroma]), np.stack([small.chroma])
    if _colors_apart(*colors, np.array([window]))[0] > _CHROMA_APART:
        return 0.0
    return structure_agreement(first, second, False, is_first, window)


def structure_agreement(
    first: Small, second: Small, turned: bool, of_first: bool, window: int
) -> float:
    """Compare the structure of two images where they are most alike.

    Args:
        first: One of them.
        second: The other.
        turned: Whether the first one is mirrored then.
        of_first: Whether all of the second is like a window of the first, or otherwise.
        window: Which of :data:`WINDOWS`; of an image that is mirrored now, what was there before.

    Returns:
        Share of the structured blocks in which they are the same, from 0 to 1; 0 where there is too
        little structure to tell, unless they are equal.
    """
    if turned:
        first = first.mirrored
    if np.array_equal(first.grey, second.grey) and np.array_equal(first.chroma, second.chroma):
        return 1.0
    large, small = (first, second) if of_first else (second, first)
    left, top, size = WINDOWS[window]
    if turned and of_first:
        left = 1 - left - size
    return _overlaid(large.grey, small.grey, (left, top, size))


def of_one_color(chroma: NDArray[np.int8], found: Candidates) -> BoolArray:
    """Return of each pair whether its colors are the same where the two are most alike.

    Args:
        chroma: Of each image, shape ``(n, 16, 16, 2)``.
        found: The pairs.
    """
    told = np.empty(len(found), bool)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        turned, of_first = found.mirrored[part], found.of_first[part]
        first, second = chroma[found.first[part]], chroma[found.second[part]]
        # Both as a mirror shows them rather than a window that lies elsewhere in one of them.
        again = turned & of_first
        second[again] = second[again, :, ::-1]
        once = turned & ~of_first
        first[once] = first[once, :, ::-1]
        where = of_first[:, np.newaxis, np.newaxis, np.newaxis]
        large, small = np.where(where, first, second), np.where(where, second, first)
        told[part] = _colors_apart(large, small, found.vector[part]) <= _CHROMA_APART
    return told


def _colors_apart(
    large: NDArray[np.int8], small: NDArray[np.int8], windows: IntArray
) -> FloatArray:
    """Return how far colors are apart on average, in units of a and b; 0 where one has none.

    Both as strong as the stronger of them.

    Args:
        large: Colors of images, shape ``(n, 16, 16, 2)``.
        small: Those of others, each all that is seen in a window of the first.
        windows: Which one, of :data:`WINDOWS`, shape ``(n,)``.
    """
    import cv2

    one, other = large.astype(np.float32), small.astype(np.float32)
    strength = np.minimum(np.abs(one).mean(axis=(1, 2, 3)), np.abs(other).mean(axis=(1, 2, 3)))
    for k in np.flatnonzero(windows):  # the first one is all of it
        left, top, size = WINDOWS[windows[k]]
        shift = np.array([[size, 0, left * COARSE], [0, size, top * COARSE]], np.float32)
        one[k] = cv2.warpAffine(
            one[k], shift, (COARSE, COARSE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    # What is darker is less colored, by one factor everywhere.
    squares = np.maximum((one * one).sum(axis=(1, 2, 3)), 1e-6)
    gain = np.clip((one * other).sum(axis=(1, 2, 3)) / squares, 0.5, 2.0)
    gain = gain[:, np.newaxis, np.newaxis, np.newaxis]
    apart = one * np.maximum(gain, 1.0) - other / np.minimum(gain, 1.0)
    mean = np.linalg.norm(apart, axis=3).mean(axis=(1, 2))
    return np.where(strength * 2 < _COLORED, np.float32(0), mean)


def _overlaid(large: Grey, small: Grey, window: tuple[float, float, float]) -> float:
    """Lay a window of one image over the other, and compare block by block."""
    import cv2

    large, small = np.ascontiguousarray(large), np.ascontiguousarray(small)
    left, top, size = window
    start = np.array([[size, 0, left * SIDE], [0, size, top * SIDE]], np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, shift = cv2.findTransformECC(
            small, large, start.copy(), cv2.MOTION_AFFINE, criteria, None, 5
        )
    except cv2.error:  # it does not converge: then by the window alone
        shift = start
    over = cv2.warpAffine(
        large.astype(np.float32), shift, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1e4, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    base = small.astype(np.float32)
    inside = over >= 0
    one, other = _structure(np.where(inside, over, base)), _structure(base)
    spread, spread_other = one.std(axis=1), other.std(axis=1)
    structured = np.maximum(spread, spread_other) > _LEAST_STRUCTURE
    structured &= _blocks(inside.astype(np.float32)).mean(axis=1) > 0.9
    if structured.sum() < _LEAST_BLOCKS:
        return 0.0
    likeness = (one * other).mean(axis=1) / (spread * spread_other + 1e-6)
    return float((likeness[structured] > _ALIKE).mean())


def _structure(grey: FloatArray) -> FloatArray:
    """Return an image's fine structure in blocks, each of mean 0."""
    import cv2

    fine = grey - cv2.GaussianBlur(grey, (0, 0), 6)
    blocks = _blocks(cv2.GaussianBlur(fine, (0, 0), 1))
    return np.asarray(blocks - blocks.mean(axis=1, keepdims=True), np.float32)


def _blocks(grey: FloatArray) -> FloatArray:
    count = SIDE // _BLOCK
    parts = grey.reshape(count, _BLOCK, count, _BLOCK).transpose(0, 2, 1, 3)
    return np.asarray(parts.reshape(count * count, -1), np.float32)
