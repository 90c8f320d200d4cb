"""Copies of an image by its pixels alone: mirrored, cropped, brighter, grey, marked.

Embeddings say what images show; that one is the mirror image of another, or 95 % of it, they may
not say at all. Here every image is a small one. Three stages find copies, mirrored ones too:

1. Correlation of 16 x 16 pixels of one with windows of the other (all of it, and 95 and 90 % of
   it in nine places) names the pairs worth a look: about one in 500 of unrelated photographs.
2. One is laid over the other by an affine transform (ECC, Evangelidis and Psarakis 2008), and the
   fine structure of 8 x 8 pixel blocks is compared. Of a copy most blocks correlate at 0.9 and
   more, whatever the brightness, and those that a watermark leaves free do too; of two photographs
   of one person in one pose only some do.
3. Where both have colors, these must be the same: drawings of one figure share their lines.

What was measured of them is in ``docs/folders.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..defaults import COPY_AGREEMENT
from ..engines.cores import processors
from ..imageset import ImageSet
from ..naming import located
from ..progress import Progress, silent
from .copy_candidates import Candidates, coarse_candidates
from .decoding import Pixels, decode_ahead
from .duplicates import every_pair, joined_pairs

if TYPE_CHECKING:
    from ..features import FeatureStore

Grey = NDArray[np.uint8]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

ANALYSER = "small image"
FINGERPRINT = "grey 128 x 128, chroma 16 x 16/1"
SIDE = 128
"""Width and height of the grey image that is kept of each."""

_COARSE = 16
_CANDIDATE = 0.82
_BLOCK = 8
_LEAST_BLOCKS = 20
_ALIKE = 0.9
_LEAST_STRUCTURE = 2.5
_KEPT, _AHEAD = 2048, 128
"""So many small images are held at a time, and read at once."""
_STORE_EVERY = 64
_COLORED = 4.0
_CHROMA_APART = 8.0

_WINDOWS = [(0.0, 0.0, 1.0)] + [
    ((1 - size) * x, (1 - size) * y, size)
    for size in (0.95, 0.9)
    for x in (0.0, 0.5, 1.0)
    for y in (0.0, 0.5, 1.0)
]
"""Left, top and size of the parts of an image that are compared, as shares of it."""


class Small(NamedTuple):
    """A small image: its lightness, and coarsely its colors."""

    grey: Grey
    """Shape ``(SIDE, SIDE)``."""
    chroma: NDArray[np.int8]
    """a and b of CIE Lab, shape ``(16, 16, 2)``."""

    @staticmethod
    def of(image: Pixels) -> Small:
        """Shrink an image (BGR, uint8) to a square, whatever its shape."""
        import cv2

        color = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(color, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(coarse, cv2.COLOR_BGR2LAB)[..., 1:].astype(np.int16) - 128
        grey = cv2.cvtColor(color, cv2.COLOR_BGR2GRAY)
        return Small(np.asarray(grey, np.uint8), lab.clip(-128, 127).astype(np.int8))

    @property
    def mirrored(self) -> Small:
        """The image as a mirror shows it."""
        return Small(np.ascontiguousarray(self.grey[:, ::-1]), self.chroma[:, ::-1])

    def to_bytes(self) -> bytes:
        """Pack for the feature store."""
        return self.grey.tobytes() + np.ascontiguousarray(self.chroma).tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> Small:
        """Unpack what :meth:`to_bytes` made."""
        grey = np.frombuffer(data, np.uint8, SIDE * SIDE).reshape(SIDE, SIDE)
        chroma = np.frombuffer(data, np.int8, offset=SIDE * SIDE).reshape(_COARSE, _COARSE, 2)
        return Small(grey, chroma)


_NOTHING = Small(np.zeros((SIDE, SIDE), np.uint8), np.zeros((_COARSE, _COARSE, 2), np.int8))


def copy_pairs(
    images: ImageSet,
    store: FeatureStore,
    agreement: float = COPY_AGREEMENT,
    progress: Progress = silent,
    *,
    known: IntArray | None = None,
) -> IntArray:
    """Find the pairs of accepted, collected images of which one is a copy of the other.

    Generated images are left out: no two of them are copies of one file, and those of one scene
    may share their composition. Equal files are pairs.

    Args:
        images: Those of the kind ``real`` are compared.
        store: Where the small images are kept; only what it lacks is decoded.
        agreement: Least share of the structured blocks that must agree.
        progress: Watches; one step is one decoded image, then one pair that is looked at.
        known: Pairs of row positions, shape ``(k, 2)``, that need no look: such as those of
            :func:`.duplicates.duplicate_pairs`. Of many images of one scene most are.

    Returns:
        Row positions in ``images``, shape ``(m, 2)``, the smaller first, with those known.
    """
    given = np.zeros((0, 2), np.int64) if known is None else np.asarray(known, np.int64)
    is_collected = (images.table["kind"] == "real").fill_null(False).to_numpy()
    rows = np.flatnonzero(images.accepted_mask() & is_collected)
    measured = _measured(images, rows, store, progress) if len(rows) > 1 else set()
    hashes = images.table["hash"].to_list()
    members: dict[str, list[int]] = {}
    for row in rows:
        if hashes[row] in measured:
            members.setdefault(hashes[row], []).append(int(row))
    if not members:
        return joined_pairs(given)
    place = np.full(len(images), -1, np.int64)
    for position, equal in enumerate(members.values()):
        place[equal] = position
    seen = place[given]
    seen = np.sort(seen[(seen >= 0).all(axis=1)], axis=1)
    pairs = alike(_Stored(list(members), store), agreement, known=seen, progress=progress)
    groups = [np.array(equal, np.int64) for equal in members.values()]
    copies = [np.stack(np.meshgrid(groups[a], groups[b]), axis=-1).reshape(-1, 2) for a, b in pairs]
    copies += [every_pair(equal) for equal in groups if len(equal) > 1]
    return joined_pairs(given, *(np.sort(part, axis=1) for part in copies))


class _Stored(Sequence[Small]):
    """Small images that stay in the store until they are asked for, the last ones kept."""

    def __init__(self, hashes: Sequence[str], store: FeatureStore) -> None:
        self._hashes, self._store = hashes, store
        self._kept: OrderedDict[int, Small] = OrderedDict()
        self._last = -1

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, index: Any) -> Any:
        if index not in self._kept:
            if index >= len(self):
                raise IndexError(index)
            # Whoever goes through them all asks for the next ones soon.
            more = _AHEAD if index == self._last + 1 else 1
            ahead = range(index, min(index + more, len(self)))
            keys = {self._hashes[k] for k in ahead}
            found = self._store.get(keys, ANALYSER, FINGERPRINT)
            for k in ahead:
                if value := found.get(self._hashes[k]):
                    self._kept[k] = Small.from_bytes(value)
        if index not in self._kept:  # lost since it was measured
            return _NOTHING
        self._last = index
        self._kept.move_to_end(index)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[index]


def _measured(
    images: ImageSet, rows: IntArray, store: FeatureStore, progress: Progress
) -> set[str]:
    """Measure what the store lacks; return the hashes of all that it holds then."""
    table = images.table[rows.tolist()].drop_nulls("hash").unique("hash", maintain_order=True)
    hashes = table["hash"].to_list()
    known: set[str] = set()
    for start in range(0, len(hashes), _KEPT):
        known |= store.get(hashes[start : start + _KEPT], ANALYSER, FINGERPRINT).keys()
    missing = [i for i, key in enumerate(hashes) if key not in known]
    if not missing:
        return known
    unsaved: dict[str, bytes] = {}
    progress.start("Looking for copies", len(missing))
    paths = [located(images.root, table["path"][i]) for i in missing]
    areas = [(table["width"][i] or 0) * (table["height"][i] or 0) or None for i in missing]
    try:
        expected = [hashes[i] for i in missing]
        for decoded in decode_ahead(paths, Small.of, sizes=areas, expected=expected):
            if decoded.found is not None:
                key = hashes[missing[decoded.index]]
                known.add(key)
                unsaved[key] = decoded.found.to_bytes()
            if len(unsaved) >= _STORE_EVERY:
                store.put(unsaved, ANALYSER, FINGERPRINT)
                unsaved.clear()
            progress.advance()
    finally:
        if unsaved:
            store.put(unsaved, ANALYSER, FINGERPRINT)
    progress.finish()
    return known


def alike(
    images: Sequence[Small],
    agreement: float = COPY_AGREEMENT,
    *,
    known: IntArray | None = None,
    progress: Progress = silent,
) -> IntArray:
    """Find the pairs of small images that are copies.

    Args:
        images: The small images.
        agreement: Least share of the structured blocks that must agree.
        known: Pairs of positions, the smaller first, that are not looked at, nor returned.
        progress: Watches; one step is one pair.

    Returns:
        Positions, shape ``(m, 2)``, the smaller first.
    """
    if len(images) < 2:
        return np.zeros((0, 2), np.int64)
    wholes = np.empty((len(images), _COARSE * _COARSE), np.float32)
    chroma = np.empty((len(images), _COARSE, _COARSE, 2), np.int8)
    for index, image in enumerate(images):
        wholes[index], chroma[index] = _windows(image.grey, _WINDOWS[:1])[0], image.chroma
    found = coarse_candidates(
        wholes, lambda index: _windows(images[index].grey), _mirrored, _CANDIDATE, known=known
    )
    # In squares of images of which all can be held, so that each is read seldom.
    square = found.first // (_KEPT // 2), found.second // (_KEPT // 2)
    order = np.lexsort((found.second, found.first, square[1], square[0]))
    order = order[_of_one_color(chroma, found)[order]]
    if not len(order):
        return np.zeros((0, 2), np.int64)
    pairs: set[tuple[int, int]] = set()
    progress.start("Comparing with copies", len(order))
    with ThreadPoolExecutor(min(8, processors()), thread_name_prefix="compare") as pool:
        for start in range(0, len(order), _AHEAD):
            for pair, likeness in _looked_at(images, found, order[start : start + _AHEAD], pool):
                if likeness >= agreement:
                    pairs.add(pair)
                progress.advance()
    progress.finish()
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _looked_at(
    images: Sequence[Small], found: Candidates, which: IntArray, pool: Executor
) -> Iterator[tuple[tuple[int, int], float]]:
    """Compare some pairs at once; yield their positions and how far they agree, in order."""
    pairs = [(int(found.first[k]), int(found.second[k])) for k in which]
    # Read here: the store is of one thread.
    held = {index: images[index] for pair in pairs for index in pair}
    agreements = pool.map(
        _agreement,
        [held[first] for first, _ in pairs],
        [held[second] for _, second in pairs],
        found.mirrored[which].tolist(),
        found.of_first[which].tolist(),
        found.vector[which].tolist(),
    )
    yield from zip(pairs, agreements, strict=True)


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
    windows, others = _windows(first.grey), _windows(second.grey)
    of_first, of_second = windows @ others[0], others @ windows[0]
    is_first = bool(of_first.max() >= of_second.max())
    window = int((of_first if is_first else of_second).argmax())
    large, small = (first, second) if is_first else (second, first)
    colors = np.stack([large.chroma]), np.stack([small.chroma])
    if _colors_apart(*colors, np.array([window]))[0] > _CHROMA_APART:
        return 0.0
    return _agreement(first, second, False, is_first, window)


def _windows(grey: Grey, windows: Sequence[tuple[float, float, float]] = _WINDOWS) -> FloatArray:
    """Return the coarse vector of windows of an image; of all of them, the whole of it first."""
    import cv2

    soft = cv2.GaussianBlur(grey, (0, 0), SIDE / _COARSE * 0.5).astype(np.float32)
    return np.stack([_coarse(soft, window) for window in windows])


def _mirrored(vectors: FloatArray) -> FloatArray:
    """Return the coarse vectors of mirrored images."""
    turned = vectors.reshape(-1, _COARSE, _COARSE)[:, :, ::-1]
    return np.ascontiguousarray(turned).reshape(len(vectors), -1)


def _agreement(first: Small, second: Small, turned: bool, of_first: bool, window: int) -> float:
    """Compare the structure of two images where they are most alike.

    Args:
        first: One of them.
        second: The other.
        turned: Whether the first one is mirrored then.
        of_first: Whether all of the second is like a window of the first, or otherwise.
        window: Which of :data:`_WINDOWS`; of an image that is mirrored now, what was there before.
    """
    if turned:
        first = first.mirrored
    if np.array_equal(first.grey, second.grey) and np.array_equal(first.chroma, second.chroma):
        return 1.0
    large, small = (first, second) if of_first else (second, first)
    left, top, size = _WINDOWS[window]
    if turned and of_first:
        left = 1 - left - size
    return _overlaid(large.grey, small.grey, (left, top, size))


def _of_one_color(chroma: NDArray[np.int8], found: Candidates) -> NDArray[np.bool_]:
    """Return of each pair whether its colors are the same where the two are most alike.

    Args:
        chroma: Of each image, shape ``(n, 16, 16, 2)``.
        found: The pairs.
    """
    told = np.empty(len(found), bool)
    for start in range(0, len(found), _KEPT):
        part = slice(start, start + _KEPT)
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
        windows: Which one, of :data:`_WINDOWS`, shape ``(n,)``.
    """
    import cv2

    one, other = large.astype(np.float32), small.astype(np.float32)
    strength = np.minimum(np.abs(one).mean(axis=(1, 2, 3)), np.abs(other).mean(axis=(1, 2, 3)))
    for k in np.flatnonzero(windows):  # the first one is all of it
        left, top, size = _WINDOWS[windows[k]]
        shift = np.array([[size, 0, left * _COARSE], [0, size, top * _COARSE]], np.float32)
        one[k] = cv2.warpAffine(
            one[k], shift, (_COARSE, _COARSE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    # What is darker is less colored, by one factor everywhere.
    squares = np.maximum((one * one).sum(axis=(1, 2, 3)), 1e-6)
    gain = np.clip((one * other).sum(axis=(1, 2, 3)) / squares, 0.5, 2.0)
    gain = gain[:, np.newaxis, np.newaxis, np.newaxis]
    apart = one * np.maximum(gain, 1.0) - other / np.minimum(gain, 1.0)
    mean = np.linalg.norm(apart, axis=3).mean(axis=(1, 2))
    return np.where(strength * 2 < _COLORED, np.float32(0), mean)


def _coarse(soft: FloatArray, window: tuple[float, float, float]) -> FloatArray:
    """Return a part of an image as a vector of mean 0 and length 1, blind to brightness."""
    import cv2

    left, top, size = window
    step = size * SIDE / _COARSE
    shift = np.array(
        [[step, 0, left * SIDE + (step - 1) / 2], [0, step, top * SIDE + (step - 1) / 2]],
        np.float32,
    )
    part = cv2.warpAffine(
        soft, shift, (_COARSE, _COARSE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).ravel()  # fmt: skip
    part = part - part.mean()
    return np.asarray(part / max(float(np.linalg.norm(part)), 1e-6), np.float32)


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
