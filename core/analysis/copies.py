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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import COPY_AGREEMENT
from ..engines.cores import processors
from ..imageset import ImageSet
from ..naming import located
from ..progress import Progress, silent
from .copy_agreement import of_one_color, structure_agreement
from .copy_candidates import Candidates, coarse_candidates
from .decoding import decode_ahead
from .duplicates import every_pair, joined_pairs
from .small_images import COARSE, NOTHING, WINDOWS, Small, coarse_windows, mirrored_windows

if TYPE_CHECKING:
    from ..features import FeatureStore

IntArray = NDArray[np.int64]

ANALYSER = "small image"
FINGERPRINT = "grey 128 x 128, chroma 16 x 16/1"

_CANDIDATE = 0.82
_KEPT, _AHEAD = 2048, 128
"""So many small images are held at a time, and read at once."""
_STORE_EVERY = 64


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
            return NOTHING
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
    wholes = np.empty((len(images), COARSE * COARSE), np.float32)
    chroma = np.empty((len(images), COARSE, COARSE, 2), np.int8)
    for index, image in enumerate(images):
        wholes[index], chroma[index] = coarse_windows(image.grey, WINDOWS[:1])[0], image.chroma
    found = coarse_candidates(
        wholes,
        lambda index: coarse_windows(images[index].grey),
        mirrored_windows,
        _CANDIDATE,
        known=known,
    )
    # In squares of images of which all can be held, so that each is read seldom.
    square = found.first // (_KEPT // 2), found.second // (_KEPT // 2)
    order = np.lexsort((found.second, found.first, square[1], square[0]))
    order = order[of_one_color(chroma, found)[order]]
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
        structure_agreement,
        [held[first] for first, _ in pairs],
        [held[second] for _, second in pairs],
        found.mirrored[which].tolist(),
        found.of_first[which].tolist(),
        found.vector[which].tolist(),
    )
    yield from zip(pairs, agreements, strict=True)
