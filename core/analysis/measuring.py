"""The work of a pass: what a worker measures of the images of a chunk.

Rows of one batch share a call of a model, whose last bits may depend on the batch's size, and on a
CPU have never depended on what else is in it. So models see batches of their full size alone:
what is measured of an image is the same in whatever chunk it is. What fills no batch at the end of
a chunk goes back to the caller, who makes batches of what several chunks have left; the very last
is filled up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..engines.cores import own_processors, processors, share
from ..engines.sharing import unseen
from ..engines.work import Needs, Tell
from ..feature_parts import write_part
from ..imageset import pack_vector
from ..stores.listing import RemoteFile
from ..stores.mirror import local_file
from ..stores.opening import StoreError
from . import pixels as pixels_module
from .decoding import PIXELS_IN_FLIGHT, Pixels, decode_ahead
from .face_looks import LOOKS, face_looks, looks_to_bytes
from .faces import DETECTION, EACH_IDENTITY, IDENTITY, MOST_FACES, Faces
from .pixels import PixelMeasurement

if TYPE_CHECKING:
    from .embeddings import Embedder
    from .face_analyser import FaceAnalyser

log = logging.getLogger(__name__)

Condition = Callable[[PixelMeasurement, Faces | None], bool]
"""Whether something is measured of an image, given what is known of it. Where several processes
work it travels: a function of a module, or an instance of a class of one."""

TELL_EVERY = 32
"""Images after which a worker tells what it has measured."""
_DECODERS = 8
_DOWNLOADS = 16
_LIBRARIES = 2**30
"""Bytes that torch, onnxruntime and open_clip take."""
_BYTES_A_PIXEL = 20
"""While the Laplacian is taken."""

_T = TypeVar("_T")


def always(pixels: PixelMeasurement, faces: Faces | None) -> bool:
    """Whatever is known of an image, the measurement is wanted."""
    return True


@dataclass(frozen=True)
class Wants:
    """What is measured of which images; see :func:`.sweep.sweep`."""

    detect: Condition = always
    identify: Condition = always
    embed: Condition = always
    every_face: bool = False


@dataclass(frozen=True)
class Known:
    """An image, and what is known of it."""

    key: str
    """The hash of its bytes."""
    path: str
    size: int | None
    """Its pixels, where their number is known."""
    pixels: PixelMeasurement | None = None
    faces: Faces | None = None
    identified: bool = False
    each_identified: bool = False
    embedded: bool = False
    origin: RemoteFile | None = None
    """The object of a store that the file is a copy of, for workers who have no such file."""


@dataclass(frozen=True)
class Left:
    """What models are still to see: too few of a chunk for a batch, or a batch."""

    crops: dict[str, Pixels] = field(default_factory=dict)
    """Faces to identify, by the hash of their image."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Images as the embedder wants them."""


Chunk = Sequence[Known] | Left


@dataclass(frozen=True)
class Found:
    """What was measured: values for the feature store, and why images cannot be read."""

    rows: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Values by analyser and by the hash of an image."""
    reasons: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    """The images of a chunk that is done."""
    left: Left = field(default_factory=Left)
    """Of these images."""
    unseen: tuple[str, ...] = ()
    """Files that were not there; see :func:`..engines.sharing.unseen`."""
    part: str = ""
    """The name of the part that the values were written as; see :class:`InParts`."""


@dataclass(frozen=True)
class Due:
    """Says what is due of an image, of which this is known."""

    analyser: FaceAnalyser | None
    embedder: Embedder | None
    wants: Wants

    def anything(self, known: Known) -> bool:
        """Whether anything is still to be measured."""
        pixels = known.pixels
        return pixels is None or (
            self.detection(known, pixels)
            or self.looks(known)
            or self.identity(known, pixels)
            or self.each_identity(known, pixels)
            or self.embedding(known, pixels)
        )

    def detection(self, known: Known, pixels: PixelMeasurement) -> bool:
        """Whether faces are to be looked for."""
        if self.analyser is None or known.faces is not None:
            return False
        return self.wants.detect(pixels, None)

    def looks(self, known: Known) -> bool:
        """Whether the looks of faces are to be measured."""
        if self.analyser is None or known.faces is None:
            return False
        if not self.analyser.calibration.photographs:
            return False
        return len(known.faces) > 0 and known.faces.looks is None

    def identity(self, known: Known, pixels: PixelMeasurement) -> bool:
        """Whether the only face is to be identified."""
        faces = known.faces
        if self.analyser is None or faces is None or known.identified or len(faces) != 1:
            return False
        return self.wants.identify(pixels, faces) and self.analyser.has_recogniser

    def each_identity(self, known: Known, pixels: PixelMeasurement) -> bool:
        """Whether several faces are to be identified."""
        faces = known.faces
        if self.analyser is None or not self.wants.every_face or faces is None or len(faces) < 2:
            return False
        if known.each_identified or not self.analyser.has_recogniser:
            return False
        shown = range(min(len(faces), MOST_FACES))
        return any(self.wants.identify(pixels, faces.only(i)) for i in shown)

    def embedding(self, known: Known, pixels: PixelMeasurement) -> bool:
        """Whether the image is to be embedded."""
        if self.embedder is None or known.embedded:
            return False
        return self.wants.embed(pixels, known.faces)


@dataclass(frozen=True)
class Measuring:
    """Measures what is missing of images; see :class:`..engines.work.Work`.

    Notes are the key of an image that is done, or a :class:`Found` so far; a chunk's result is the
    rest.
    """

    analyser: FaceAnalyser | None
    embedder: Embedder | None
    wants: Wants

    @property
    def needs(self) -> Needs:
        """What a worker takes: libraries, models, and images in flight."""
        needed, device = _LIBRARIES + PIXELS_IN_FLIGHT * _BYTES_A_PIXEL // processors(), "cpu"
        if self.analyser is not None:
            files = (path for path in self.analyser.folder.rglob("*") if path.is_file())
            needed += sum(path.stat().st_size for path in files)
        if self.embedder is not None:
            needed += self.embedder.bytes
            device = str(self.embedder.device)
        return Needs(needed, device)

    def open(self, tell: Tell) -> Callable[[Chunk], Found]:
        """Return what measures the images of a chunk. Models load when one needs them."""
        return lambda chunk: _Chunk(self, tell).measured(chunk)


@dataclass(frozen=True)
class InParts:
    """The same, and what is found is written where it is found; see :mod:`..feature_parts`.

    Notes and results then say only which images are done, and which cannot be read.
    """

    work: Measuring
    folder: Path
    fingerprints: Mapping[str, str]
    """Under which each analyser's values are stored."""

    def open(self, tell: Tell) -> Callable[[Chunk], Found]:
        """Return what measures the images of a chunk, and writes what it finds."""
        run = self.work.open(
            lambda note: tell(self._written(note) if isinstance(note, Found) else note)
        )
        return lambda chunk: self._written(run(chunk))

    def _written(self, found: Found) -> Found:
        rows = {(name, self.fingerprints[name]): items for name, items in found.rows.items()}
        return replace(found, rows={}, part=write_part(self.folder, rows))


class _Chunk:
    """The state of one chunk."""

    def __init__(self, work: Measuring, tell: Tell) -> None:
        self._analyser, self._embedder = work.analyser, work.embedder
        self._due = Due(work.analyser, work.embedder, work.wants)
        self._tell = tell
        self._crops: dict[str, Pixels] = {}
        self._inputs: dict[str, Any] = {}
        self._rows: dict[str, dict[str, bytes]] = {}
        self._reasons: dict[str, str] = {}
        self._unseen: tuple[str, ...] = ()

    def measured(self, chunk: Chunk) -> Found:
        """Decode each image once, and measure what is due."""
        if isinstance(chunk, Left):
            self._crops, self._inputs = dict(chunk.crops), dict(chunk.inputs)
            if self._crops:
                self._identify()
            if self._inputs:
                self._embed()
            return Found(self._rows)
        decoded_ones = decode_ahead(
            _files_of(chunk),
            PixelMeasurement.of,
            sizes=[known.size for known in chunk],
            expected=[known.key for known in chunk],
            workers=min(_DECODERS, own_processors()),
            pixels_in_flight=PIXELS_IN_FLIGHT // share(),
        )
        try:
            for done, decoded in enumerate(decoded_ones, 1):
                known = chunk[decoded.index]
                if decoded.image is None or decoded.found is None:
                    self._fail(known, decoded.reason, decoded.lasting)
                else:
                    self._take(known, decoded.image, decoded.found)
                if done % TELL_EVERY == 0:
                    self._hand_over()
                self._tell(known.key)
        except BaseException:
            self._hand_over()  # nothing that was measured is lost
            raise
        keys = tuple(known.key for known in chunk)
        left = Left(self._crops, self._inputs)
        return Found(self._rows, self._reasons, keys, left, self._unseen)

    def _take(self, known: Known, image: Pixels, pixels: PixelMeasurement) -> None:
        """Measure what is missing of one decoded image."""
        key = known.key
        if known.pixels is None:
            self._keep(pixels_module.ANALYSER, key, pixels.to_bytes())
        else:
            pixels = known.pixels
        if self._analyser is not None:
            known = self._look_for_faces(self._analyser, known, image, pixels)
        if self._embedder is not None and self._due.embedding(known, pixels):
            self._inputs[key] = self._embedder.preprocess(image)
            if len(self._inputs) >= self._embedder.batch_size:
                self._embed()

    def _look_for_faces(
        self, analyser: FaceAnalyser, known: Known, image: Pixels, pixels: PixelMeasurement
    ) -> Known:
        """Measure what is due of faces; return what is known of the image then."""
        key, faces = known.key, known.faces
        if self._due.detection(known, pixels):
            faces = analyser.detect(image)
            self._keep(DETECTION, key, faces.to_bytes())
        known = _with_faces(known, faces)
        if faces is None:
            return known
        if self._due.looks(known):
            looks = face_looks(image, faces.boxes[:MOST_FACES])
            faces = faces.with_looks(looks)
            known = _with_faces(known, faces)
            self._keep(LOOKS, key, looks_to_bytes(looks))
        if self._due.identity(known, pixels):
            self._crops[key] = analyser.crop(image, faces.landmarks[0], faces.boxes[0])
            if len(self._crops) >= analyser.batch_size:
                self._identify()
        if self._due.each_identity(known, pixels):
            each = zip(faces.landmarks[:MOST_FACES], faces.boxes[:MOST_FACES], strict=True)
            vectors = analyser.identify([analyser.crop(image, p, b) for p, b in each])
            self._keep(EACH_IDENTITY, key, pack_vector(vectors.ravel()))
        return known

    def _fail(self, known: Known, reason: str, lasting: bool) -> None:
        """Record that an image cannot be read; for good when its bytes are at fault."""
        key = known.key
        self._reasons[key] = reason
        self._unseen += unseen([known.path])
        if lasting:
            value = PixelMeasurement.unreadable(reason).to_bytes()
            self._keep(pixels_module.ANALYSER, key, value)

    def _hand_over(self) -> None:
        """Tell what has been measured."""
        if self._rows or self._reasons:
            found = Found(self._rows, self._reasons, unseen=self._unseen)
            self._rows, self._reasons, self._unseen = {}, {}, ()
            self._tell(found)

    def _identify(self) -> None:
        if self._analyser is None:
            return
        vectors = self._analyser.identify(
            _filled(list(self._crops.values()), self._analyser.batch_size)
        )
        for key, vector in zip(self._crops, vectors, strict=False):
            self._keep(IDENTITY, key, pack_vector(vector))
        self._crops.clear()

    def _embed(self) -> None:
        from .embeddings import ANALYSER

        if self._embedder is None:
            return
        vectors = self._embedder.embed(
            _filled(list(self._inputs.values()), self._embedder.batch_size)
        )
        for key, vector in zip(self._inputs, vectors, strict=False):
            self._keep(ANALYSER, key, pack_vector(vector))
        self._inputs.clear()

    def _keep(self, analyser: str, key: str, value: bytes) -> None:
        self._rows.setdefault(analyser, {})[key] = value


def _files_of(chunk: Sequence[Known]) -> list[Path]:
    """Return the images' files; objects of stores are downloaded that this machine lacks."""
    if all(known.origin is None for known in chunk):
        return [Path(known.path) for known in chunk]
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        return list(pool.map(_file_of, chunk))


def _file_of(known: Known) -> Path:
    path = Path(known.path)
    if known.origin is None or path.exists():
        return path
    try:
        return local_file(known.origin)
    except StoreError as error:
        log.warning("%s", error)
        return path


def _filled(batch: list[_T], size: int) -> list[_T]:
    """Return a batch of its full size: with its last one again, where it is smaller."""
    return batch + batch[-1:] * (size - len(batch))


def _with_faces(known: Known, faces: Faces | None) -> Known:
    return known if faces is known.faces else replace(known, faces=faces)
