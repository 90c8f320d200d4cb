"""One pass over the images: decode once, measure whatever is missing, store it.

Every stage of the analysis asks this pass for what it needs. An image is decoded only when the
feature store lacks something of it; models see decoded images one after the other and crops in
batches; what has been measured is stored every few images, also when the pass is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..features import FeatureStoreError
from ..imageset import ImageSet, pack_vector
from ..naming import located
from ..progress import Progress, silent
from . import pixels as pixels_module
from .decoding import Pixels, decode_ahead
from .face_looks import LOOKS, LOOKS_VERSION, face_looks, looks_from_bytes, looks_to_bytes
from .faces import DETECTION, EACH_IDENTITY, IDENTITY, MOST_FACES, Faces
from .pixels import PixelMeasurement, reject_unreadable

if TYPE_CHECKING:
    from ..features import FeatureStore
    from .embeddings import Embedder
    from .face_analyser import FaceAnalyser

Condition = Callable[[PixelMeasurement, Faces | None], bool]

_STORE_EVERY = 32
_TRIES = 5


def always(pixels: PixelMeasurement, faces: Faces | None) -> bool:
    """Whatever is known of an image, the measurement is wanted."""
    return True


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

    Returns:
        The set, with the images that cannot be read rejected as ``unreadable``.

    Raises:
        FeatureStoreError: The store keeps losing what is written to it.
    """
    for _ in range(_TRIES):
        before = store.losses
        found = _pass(
            images, store, (analyser, embedder), (detect, identify, embed), every_face,
            stage, progress,
        )  # fmt: skip
        if store.losses == before:
            return found
        # What turned out to be damaged meanwhile is measured by another pass.
    raise FeatureStoreError(
        store.path, "kept", OSError(f"what was written to it was lost {_TRIES} times")
    )


def _pass(
    images: ImageSet,
    store: FeatureStore,
    models: tuple[FaceAnalyser | None, Embedder | None],
    wants: tuple[Condition, Condition, Condition],
    every_face: bool,
    stage: str,
    progress: Progress,
) -> ImageSet:
    """Fill the store once; see :func:`sweep`."""
    run = _Run(store, *models, *wants, every_face)
    table = images.accepted.table.filter(images.accepted.table["hash"].is_not_null())
    rows = table.unique("hash", keep="first", maintain_order=True)
    hashes = rows["hash"].to_list()
    run.recall(hashes)
    wanted = [i for i, key in enumerate(hashes) if run.lacks(key)]
    run.keep_only({hashes[i] for i in wanted})
    if wanted:
        paths = [located(images.root, rows["path"][i]) for i in wanted]
        sizes = [_area(rows["width"][i], rows["height"][i]) for i in wanted]
        progress.start(stage, len(wanted))
        try:
            expected = [hashes[i] for i in wanted]
            for decoded in decode_ahead(paths, PixelMeasurement.of, sizes=sizes, expected=expected):
                key = hashes[wanted[decoded.index]]
                if decoded.image is None or decoded.found is None:
                    run.fail(key, decoded.reason, decoded.lasting)
                else:
                    run.take(key, decoded.image, decoded.found)
                progress.advance()
            run.flush()
        finally:
            run.save()
        progress.finish()
    accepted = images.accepted_mask()
    return reject_unreadable(
        images,
        [
            run.reasons.get(key, "") if accepted[i] and key else ""
            for i, key in enumerate(images.table["hash"])
        ],
    )


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


@dataclass
class _Run:
    """The state of one pass."""

    store: FeatureStore
    analyser: FaceAnalyser | None
    embedder: Embedder | None
    wants_detection: Condition
    wants_identity: Condition
    wants_embedding: Condition
    every_face: bool

    reasons: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, PixelMeasurement] = field(default_factory=dict)
    faces: dict[str, Faces] = field(default_factory=dict)
    identified: set[str] = field(default_factory=set)
    each_identified: set[str] = field(default_factory=set)
    embedded: set[str] = field(default_factory=set)
    crops: dict[str, Pixels] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    unsaved: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    taken: int = 0

    def recall(self, hashes: list[str]) -> None:
        """Read what the store knows."""
        stored = self.store.get(hashes, pixels_module.ANALYSER, pixels_module.FINGERPRINT)
        for key, value in stored.items():
            self.pixels[key] = PixelMeasurement.from_bytes(value)
            if self.pixels[key].reason:
                self.reasons[key] = self.pixels[key].reason
        if self.analyser:
            self.faces = known_faces(hashes, self.store, self.analyser)
            fingerprint = self.analyser.identity_fingerprint
            self.identified = set(self.store.get(hashes, IDENTITY, fingerprint))
            if self.every_face:
                self.each_identified = set(self.store.get(hashes, EACH_IDENTITY, fingerprint))
        if self.embedder:
            from .embeddings import ANALYSER

            self.embedded = set(self.store.get(hashes, ANALYSER, self.embedder.fingerprint))

    def keep_only(self, keys: set[str]) -> None:
        """Forget what is known of all other images."""
        self.pixels = {key: value for key, value in self.pixels.items() if key in keys}
        self.faces = {key: value for key, value in self.faces.items() if key in keys}

    def lacks(self, key: str) -> bool:
        """Whether something of an image is still to be measured."""
        if key in self.reasons:
            return False
        if key not in self.pixels:
            return True
        pixels = self.pixels[key]
        return (
            self._detection_due(key, pixels)
            or self._look_due(key)
            or self._identity_due(key, pixels)
            or self._each_identity_due(key, pixels)
            or self._embedding_due(key, pixels)
        )

    def _detection_due(self, key: str, pixels: PixelMeasurement) -> bool:
        if self.analyser is None or key in self.faces:
            return False
        return self.wants_detection(pixels, None)

    def _identity_due(self, key: str, pixels: PixelMeasurement) -> bool:
        faces = self.faces.get(key)
        if self.analyser is None or faces is None or key in self.identified or len(faces) != 1:
            return False
        return self.wants_identity(pixels, faces) and self.analyser.has_recogniser

    def _look_due(self, key: str) -> bool:
        faces = self.faces.get(key)
        if self.analyser is None or faces is None or not self.analyser.calibration.photographs:
            return False
        return len(faces) > 0 and faces.looks is None

    def _each_identity_due(self, key: str, pixels: PixelMeasurement) -> bool:
        faces = self.faces.get(key)
        if self.analyser is None or not self.every_face or faces is None or len(faces) < 2:
            return False
        if key in self.each_identified or not self.analyser.has_recogniser:
            return False
        shown = range(min(len(faces), MOST_FACES))
        return any(self.wants_identity(pixels, faces.only(i)) for i in shown)

    def _embedding_due(self, key: str, pixels: PixelMeasurement) -> bool:
        if self.embedder is None or key in self.embedded:
            return False
        return self.wants_embedding(pixels, self.faces.get(key))

    def take(self, key: str, image: Pixels, pixels: PixelMeasurement) -> None:
        """Measure what is missing of one decoded image."""
        if key not in self.pixels:
            self.pixels[key] = pixels
            self._keep(pixels_module.ANALYSER, pixels_module.FINGERPRINT, key, pixels.to_bytes())
        if self.analyser and self._detection_due(key, pixels):
            self.faces[key] = self.analyser.detect(image)
            self._keep(DETECTION, self.analyser.detection_fingerprint, key,
                       self.faces[key].to_bytes())  # fmt: skip
        if self.analyser and self._look_due(key):
            looks = face_looks(image, self.faces[key].boxes[:MOST_FACES])
            self.faces[key] = self.faces[key].with_looks(looks)
            self._keep(LOOKS, looks_fingerprint(self.analyser), key, looks_to_bytes(looks))
        if self.analyser and self._identity_due(key, pixels):
            shown = self.faces[key]
            self.crops[key] = self.analyser.crop(image, shown.landmarks[0], shown.boxes[0])
            if len(self.crops) >= self.analyser.batch_size:
                self._identify()
        if self.analyser and self._each_identity_due(key, pixels):
            shown = self.faces[key]
            each = zip(shown.landmarks[:MOST_FACES], shown.boxes[:MOST_FACES], strict=True)
            vectors = self.analyser.identify([self.analyser.crop(image, p, b) for p, b in each])
            self._keep(EACH_IDENTITY, self.analyser.identity_fingerprint, key,
                       pack_vector(vectors.ravel()))  # fmt: skip
        if self.embedder and self._embedding_due(key, pixels):
            self.inputs[key] = self.embedder.preprocess(image)
            if len(self.inputs) >= self.embedder.batch_size:
                self._embed()
        # Nothing of an image is kept: memory does not grow with their number.
        del self.pixels[key]
        self.faces.pop(key, None)
        self.taken += 1
        if self.taken % _STORE_EVERY == 0:
            self.save()

    def fail(self, key: str, reason: str, lasting: bool) -> None:
        """Record that an image cannot be read; for good when its bytes are at fault."""
        self.reasons[key] = reason
        if lasting:
            value = PixelMeasurement.unreadable(reason).to_bytes()
            self._keep(pixels_module.ANALYSER, pixels_module.FINGERPRINT, key, value)

    def flush(self) -> None:
        """Run the models on the last, smaller batches."""
        if self.crops:
            self._identify()
        if self.inputs:
            self._embed()

    def save(self) -> None:
        """Store what has been measured."""
        for (analyser, fingerprint), items in self.unsaved.items():
            self.store.put(items, analyser, fingerprint)
        self.unsaved.clear()

    def _identify(self) -> None:
        if self.analyser is None:
            return
        vectors = self.analyser.identify(list(self.crops.values()))
        for key, vector in zip(self.crops, vectors, strict=True):
            self._keep(IDENTITY, self.analyser.identity_fingerprint, key, pack_vector(vector))
        self.crops.clear()

    def _embed(self) -> None:
        from .embeddings import ANALYSER

        if self.embedder is None:
            return
        vectors = self.embedder.embed(list(self.inputs.values()))
        for key, vector in zip(self.inputs, vectors, strict=True):
            self._keep(ANALYSER, self.embedder.fingerprint, key, pack_vector(vector))
        self.inputs.clear()

    def _keep(self, analyser: str, fingerprint: str, key: str, value: bytes) -> None:
        self.unsaved.setdefault((analyser, fingerprint), {})[key] = value
