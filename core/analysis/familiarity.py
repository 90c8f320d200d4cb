"""Whether images are of the kind that the embedded models know: drawn portraits, not photographs.

The embedded family was trained on drawings in strong colors on smooth grounds. Of a photograph its
detector and its CLIP say something too, and it means little; so a look at a few images comes before
anything is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..counts import how_many, worded
from ..defaults import CLIP_MODEL, FACE_PACK
from ..imageset import ImageSet
from ..naming import located
from .decoding import Pixels, decode_ahead
from .embeddings import MINIATURE

if TYPE_CHECKING:
    from ..features import FeatureStore

SAMPLE = 24
"""How many images are looked at, spread over the set."""

_SIDE = 128
_CHROMA, _ROUGHNESS, _START = -0.2094, 1.2202, 2.378
"""Logistic regression on 230 photographs and 408 drawings of the family (90 and 89 % right)."""
_SEEN, _SEEN_BY, _YES = "photographic", "1", b"\1"
_CLIP_WEIGHTS = "laion2b_s34b_b79k"
_TOLD_BY = {
    "face pack": "faces and identity",
    "CLIP model": "near-duplicates and clusters",
}


def is_photographic(image: Pixels) -> bool:
    """Whether an image (BGR, uint8) rather looks like a photograph than like the family's drawings.

    Photographs have weaker colors (mean chroma in CIE Lab 10 against 35) and rougher surfaces
    (median of the Laplacian of L 2.0 against 1.2, at 128 x 128 pixels).
    """
    import cv2

    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).astype(np.float32)
    chroma = np.hypot(lab[..., 1] - 128, lab[..., 2] - 128).mean()
    rough = np.median(np.abs(cv2.Laplacian(lab[..., 0] * 100 / 255, cv2.CV_32F)))
    return bool(_START + _CHROMA * chroma + _ROUGHNESS * rough > 0)


def photographic_share(
    images: ImageSet, sample: int = SAMPLE, store: FeatureStore | None = None
) -> tuple[int, int]:
    """Look at some collected images: how many look like photographs, and how many were looked at.

    Generated images count for nothing: whoever made them knows with which model.

    Args:
        images: The candidates.
        sample: So many accepted ones are looked at, spread over the set.
        store: Remembers what was seen.
    """
    is_collected = (images.table["kind"] == "real").fill_null(False).to_numpy()
    rows = np.flatnonzero(images.accepted_mask() & is_collected)
    if not len(rows):
        return 0, 0
    chosen = np.unique(rows[np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(int)])
    hashes = images.table["hash"].gather(chosen).to_list()
    known: dict[str, bytes] = {}
    if store is not None:
        known = store.get([key for key in hashes if key], _SEEN, _SEEN_BY)
    missing = [(int(row), key) for row, key in zip(chosen, hashes, strict=True) if key not in known]
    paths = [located(images.root, images.table["path"][row]) for row, _ in missing]
    fresh: dict[str, bytes] = {}
    seen = [known[key] == _YES for key in hashes if key in known]
    for one in decode_ahead(paths, is_photographic):
        key = missing[one.index][1]
        if one.found is not None:
            seen.append(one.found)
            if key:
                fresh[key] = _YES if one.found else b"\0"
    if store is not None and fresh:
        store.put(fresh, _SEEN, _SEEN_BY)
    return sum(seen), len(seen)


def is_beyond(images: ImageSet, clip: str, store: FeatureStore | None = None) -> bool:
    """Whether the images are photographs, of which the embedded CLIP can't say what they show.

    Args:
        images: The candidates.
        clip: The open_clip model.
        store: Remembers what was seen.
    """
    if clip != MINIATURE:
        return False
    found, seen = photographic_share(images, store=store)
    return bool(seen) and found * 2 >= seen


def unfamiliar(images: ImageSet, pack: str, clip: str, *, as_command: bool = True) -> str:
    """Say that the embedded models are to measure photographs, and what to take instead.

    Args:
        images: What is going to be measured.
        pack: The face pack.
        clip: The open_clip model.
        as_command: Whether what to take instead is said as options of the command line.

    Returns:
        One sentence or two; empty where other models are chosen, or less than half of the images
        look like photographs.
    """
    options = []
    if pack == MINIATURE:
        options.append(f"--faces {FACE_PACK}")
    if clip == MINIATURE:
        options.append(f"--clip {CLIP_MODEL}:{_CLIP_WEIGHTS}")
    if not options:
        return ""
    found, seen = photographic_share(images)
    if not seen or found * 2 < seen:
        return ""
    whose = {"face pack": pack, "CLIP model": clip}
    unknowing = [what for what, name in whose.items() if name == MINIATURE]
    doubtful = [_TOLD_BY[what] for what in unknowing]
    named = ", and clusters are named by pose and framing alone" if clip == MINIATURE else ""
    instead = (
        f"character-curator curate ... {' '.join(options)}"
        if as_command
        else " and ".join(option.split(" ")[1] for option in options)
    )
    return (
        f"{found:,} of {how_many(seen, 'image')} that {worded(seen, 'was', 'were')} looked at "
        f"{worded(found, 'seems to be a photograph', 'seem to be photographs')}, and the embedded "
        f"{' and '.join(unknowing)} {worded(len(unknowing), 'knows', 'know')} drawn portraits "
        f"only: {', '.join(doubtful)} will mean little{named}. With real models: {instead}"
    )
