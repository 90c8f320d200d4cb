"""One pass over the images: decode once, measure whatever is missing, store it.

Every stage of the analysis asks this pass for what it needs. An image is decoded only when the
feature store lacks something of it; models see decoded images one after the other and crops in
batches; what has been measured is stored every few images, also when the pass is interrupted.
An engine decides where that is done (:mod:`.measuring`); the store is written here alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..engines.here import Here
from ..engines.sharing import check_seen, check_unseen
from ..engines.work import Counted
from ..feature_parts import merge_parts, parts_of
from ..features import FeatureStoreError
from ..imageset import ImageSet
from ..naming import located
from ..progress import Progress, silent
from ..stores.mirror import origin_of
from . import pixels as pixels_module
from .face_looks import LOOKS, LOOKS_VERSION, looks_from_bytes
from .faces import DETECTION, EACH_IDENTITY, IDENTITY, Faces
from .measuring import Chunk, Condition, Due, Found, InParts, Known, Left, Measuring, Wants
from .measuring import always as always
from .pixels import PixelMeasurement, reject_unreadable

if TYPE_CHECKING:
    import polars as pl

    from ..engines.work import Engine
    from ..features import FeatureStore
    from .embeddings import Embedder
    from .face_analyser import FaceAnalyser

_TRIES = 5
_LEAST_CHUNK, _LEAST_ALONE, _MOST_CHUNK = 4, 16, 128
"""Images: of a chunk where several work, of one where nobody else does, and of any."""
_CHUNKS_A_WORKER = 8
"""Chunks that each worker gets, unless they would become too small or too large."""


def sweep(
    images: ImageSet,
    store: FeatureStore,
    *,
    analyser: FaceAnalyser | None = None,
    embedder: Embedder | None = None,
    detect: Condition = always,
    identify: Condition = always,
    embed: Condition = always,
    every_face: bool = False,
    stage: str = "Analysing",
    progress: Progress = silent,
    engine: Engine | None = None,
) -> ImageSet:
    """Fill the store with what is missing of the accepted images.

    Args:
        images: The candidates; of equal files one is decoded.
        store: Read first, then filled.
        analyser: Detects and identifies faces; without it there is none of either.
        embedder: Embeds images; without it none are.
        detect: Whether faces are looked for, given the pixels.
        identify: Whether a face is identified, given the pixels and that face alone. Called only
            for images with exactly one face, unless ``every_face``.
        embed: Whether an image is embedded, given the pixels and, with an analyser, the faces
            (``None`` when they were not looked for).
        every_face: Also identify the faces of images with several, where ``identify`` wants one.
        stage: What the progress is called.
        progress: Watches; one step is one decoded image.
        engine: Where images are decoded and measured; in this process unless given.

    Returns:
        The set, with the images that cannot be read rejected as ``unreadable``.

    Raises:
        FeatureStoreError: The store keeps losing what is written to it.
    """
    wants = Wants(detect, identify, embed, every_face)
    work = Measuring(analyser, embedder, wants)
    for _ in range(_TRIES):
        before = store.losses
        found = _pass(images, store, work, stage, progress, engine or Here())
        if store.losses == before:
            return found
        # What turned out to be damaged meanwhile is measured by another pass.
    raise FeatureStoreError(
        store.path, "kept", OSError(f"what was written to it was lost {_TRIES} times")
    )


def _pass(
    images: ImageSet,
    store: FeatureStore,
    work: Measuring,
    stage: str,
    progress: Progress,
    engine: Engine,
) -> ImageSet:
    """Fill the store once; see :func:`sweep`."""
    folder = parts_of(store)
    if folder is not None:
        merge_parts(store, folder)  # what a caller left who was killed
    table = images.accepted.table.filter(images.accepted.table["hash"].is_not_null())
    rows = table.unique("hash", keep="first", maintain_order=True)
    known, reasons = _recalled(images, rows, store, work)
    due = Due(work.analyser, work.embedder, work.wants)
    wanted = [one for one in known if due.anything(one)]
    if wanted:
        progress.start(stage, len(wanted))
        taker = _Taker(store, work, progress, reasons)
        if engine.parts and folder is not None:
            try:
                _measure(wanted, InParts(work, folder, taker.fingerprints), engine, taker)
                check_seen(folder / name for name in sorted(taker.parts))
            finally:
                merge_parts(store, folder)
        else:
            _measure(wanted, work, engine, taker)
        progress.finish()
    accepted = images.accepted_mask()
    return reject_unreadable(
        images,
        [
            reasons.get(key, "") if accepted[i] and key else ""
            for i, key in enumerate(images.table["hash"])
        ],
    )


def _measure(wanted: list[Known], work: Measuring | InParts, engine: Engine, taker: _Taker) -> None:
    """Let an engine measure images, and take what it finds."""
    size = chunk_size(len(wanted), engine.workers)
    count = -(-len(wanted) // size)
    left = deque(wanted)
    wanted.clear()

    def chunks() -> Iterator[Chunk]:
        while left:  # nothing of an image is kept: memory does not grow with their number
            yield from taker.batches()
            chunk = tuple(left.popleft() for _ in range(min(size, len(left))))
            if engine.remote:
                chunk = tuple(replace(known, origin=origin_of(known.path)) for known in chunk)
            yield chunk

    with closing(engine.map(work, Counted(chunks(), count), tell=taker.note)) as results:
        for found in results:
            taker.take(found)
    with closing(engine.map(work, list(taker.batches(last=True)))) as results:
        for found in results:
            taker.take(found)


def chunk_size(count: int, workers: int) -> int:
    """Return how many images a chunk has.

    Few where there are few: large photographs take seconds each, and whoever has the last chunk
    works alone. Where nobody else works nothing is gained by that, and at each chunk's end what is
    decoded ahead runs dry.

    Args:
        count: Images, from 1.
        workers: Who share them, from 1.
    """
    least = _LEAST_ALONE if workers == 1 else min(_LEAST_CHUNK, -(-count // workers))
    return min(max(count // (workers * _CHUNKS_A_WORKER), least), _MOST_CHUNK)


class _Taker:
    """Takes what workers find: it goes into the store, and progress is told."""

    def __init__(
        self, store: FeatureStore, work: Measuring, progress: Progress, reasons: dict[str, str]
    ) -> None:
        self._store, self._progress, self._reasons = store, progress, reasons
        self.fingerprints = _fingerprints(work)
        self._told: set[str] = set()
        self.parts: set[str] = set()
        self._left = Left()
        self._faces = 0 if work.analyser is None else work.analyser.batch_size
        self._embedded = 0 if work.embedder is None else work.embedder.batch_size

    def note(self, note: Any) -> None:
        """Take a worker's note: an image that is done, or what has been found so far."""
        if isinstance(note, Found):
            self.take(note)
        elif note not in self._told:  # it is again where the worker that had it has died
            self._told.add(note)
            self._progress.advance()

    def take(self, found: Found) -> None:
        """Store what was found."""
        check_unseen(found.unseen)
        if found.part:
            self.parts.add(found.part)
        self._reasons |= found.reasons
        for analyser, items in found.rows.items():
            self._store.put(items, analyser, self.fingerprints[analyser])
        for key in found.keys:
            self.note(key)
        self._told -= set(found.keys)
        self._left.crops.update(found.left.crops)
        self._left.inputs.update(found.left.inputs)

    def batches(self, *, last: bool = False) -> Iterator[Left]:
        """Yield batches of what chunks have left: the full ones, at last the others too."""
        crops, inputs = self._left.crops, self._left.inputs
        while (
            (self._faces and len(crops) >= self._faces)
            or (self._embedded and len(inputs) >= self._embedded)
            or (last and (crops or inputs))
        ):
            full = last or len(crops) >= self._faces, last or len(inputs) >= self._embedded
            yield Left(_cut(crops, self._faces * full[0]), _cut(inputs, self._embedded * full[1]))


def _cut(items: dict[str, Any], count: int) -> dict[str, Any]:
    """Take so many out, the first first."""
    return {key: items.pop(key) for key in list(items)[:count]}


def _fingerprints(work: Measuring) -> dict[str, str]:
    """Return the fingerprint under which each analyser's values are stored."""
    found = {pixels_module.ANALYSER: pixels_module.FINGERPRINT}
    if work.analyser is not None:
        found |= {
            DETECTION: work.analyser.detection_fingerprint,
            LOOKS: looks_fingerprint(work.analyser),
            IDENTITY: work.analyser.identity_fingerprint,
            EACH_IDENTITY: work.analyser.identity_fingerprint,
        }
    if work.embedder is not None:
        from .embeddings import ANALYSER

        found[ANALYSER] = work.embedder.fingerprint
    return found


def _recalled(
    images: ImageSet, rows: pl.DataFrame, store: FeatureStore, work: Measuring
) -> tuple[Iterator[Known], dict[str, str]]:
    """Return what the store knows of each image, and why some cannot be read."""
    hashes = rows["hash"].to_list()
    stored = store.get(hashes, pixels_module.ANALYSER, pixels_module.FINGERPRINT)
    pixels = {key: PixelMeasurement.from_bytes(value) for key, value in stored.items()}
    reasons = {key: found.reason for key, found in pixels.items() if found.reason}
    faces: dict[str, Faces] = {}
    identified: set[str] = set()
    each: set[str] = set()
    embedded: set[str] = set()
    if work.analyser is not None:
        faces = known_faces(hashes, store, work.analyser)
        fingerprint = work.analyser.identity_fingerprint
        identified = set(store.get(hashes, IDENTITY, fingerprint))
        if work.wants.every_face:
            each = set(store.get(hashes, EACH_IDENTITY, fingerprint))
    if work.embedder is not None:
        from .embeddings import ANALYSER

        embedded = set(store.get(hashes, ANALYSER, work.embedder.fingerprint))
    columns = zip(hashes, rows["path"], rows["width"], rows["height"], strict=True)
    every = (
        Known(
            key,
            str(located(images.root, path)),
            _area(width, height),
            pixels.get(key),
            faces.get(key),
            key in identified,
            key in each,
            key in embedded,
        )
        for key, path, width, height in columns
        if key not in reasons
    )
    return every, reasons


def known_faces(
    hashes: Sequence[str], store: FeatureStore, analyser: FaceAnalyser
) -> dict[str, Faces]:
    """Return what the store knows of the faces of images, with their looks where it knows them."""
    found = store.get(hashes, DETECTION, analyser.detection_fingerprint)
    faces = {key: Faces.from_bytes(value) for key, value in found.items()}
    if analyser.calibration.photographs:
        looks = store.get(hashes, LOOKS, looks_fingerprint(analyser))
        for key in faces.keys() & looks.keys():
            faces[key] = faces[key].with_looks(looks_from_bytes(looks[key]))
    return faces


def looks_fingerprint(analyser: FaceAnalyser) -> str:
    """Return what the looks of faces depend on: where the faces are, and how they are measured."""
    return f"{analyser.detection_fingerprint} {LOOKS_VERSION}"


def _area(width: int | None, height: int | None) -> int | None:
    return width * height if width and height else None
