"""Face validation: exactly one face, certain, large enough, and of the right person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..counts import how_many
from ..defaults import MINIMUM_CONFIDENCE, MINIMUM_FACE_SHARE, MINIMUM_FACE_SIDE
from ..errors import CuratorError
from ..imageset import ImageSet, content_hash, pack_vector, unpack_vector, vector_column
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .calibration import Calibration
from .decoding import read_hashed
from .face_analyser import FaceAnalyser
from .face_choice import LARGEST, REFERENCE, REJECT, FaceChoice, chosen_face
from .face_looks import LOOK_COLUMNS
from .face_packs import FacePackError
from .faces import DETECTION, EACH_IDENTITY, IDENTITY, Faces
from .identities import References, normalised, robust_centroid
from .pixels import PixelMeasurement, known_pixels
from .poses import (
    PROFILE_DEGREES,
    PROFILE_FROM,
    THREE_QUARTER_DEGREES,
    THREE_QUARTER_FROM,
    framing,
    framing_by_height,
    head_angles,
    pose,
    yaw,
)
from .sweep import known_faces, sweep

if TYPE_CHECKING:
    from ..features import FeatureStore


class ReferenceFaceError(CuratorError):
    """A reference image does not show exactly one face."""

    def __init__(self, path: Path, count: int) -> None:
        advice = (
            "Crop it to the person, or name another image."
            if count
            else "Name another image: the face sharp, well lit, rather from the front, and with "
            "some room around it. A face that fills the frame was looked for as well, so cropping "
            "closer will not help."
        )
        super().__init__(
            f"The reference image {path} shows {how_many(count, 'face') if count else 'no faces'}; "
            f"exactly one is needed. {advice}"
        )


@dataclass(frozen=True)
class FaceThresholds:
    """What a valid face is."""

    confidence: float = MINIMUM_CONFIDENCE
    """Least confidence of the face, calibrated by the pack; with the embedded pack, and where
    ``raw`` is set, the detector's own score. Below it the seed-document quality formula gives 0 as
    well."""
    share: float = MINIMUM_FACE_SHARE
    """Least area of the face box, as a share of the image's."""
    side: float = MINIMUM_FACE_SIDE
    """Least width and height of the face box in pixels."""
    identity: float | None = None
    """Least cosine similarity to the reference identity; ``None`` takes the pack's own where there
    are references, and only reports it elsewhere."""
    three_quarter: float = THREE_QUARTER_FROM
    """Least absolute yaw that is called three-quarter."""
    profile: float = PROFILE_FROM
    """Least absolute yaw that is called a profile; see :data:`poses.PROFILE_FROM`."""
    choice: FaceChoice | None = None
    """What is done with images of several faces: ``reject`` leaves them out, ``largest`` takes the
    largest face, ``reference`` the one that resembles the references. ``None`` takes
    ``reference`` where there are references and the pack is for photographs, else ``reject``."""
    raw: bool = False
    """Whether the detector's own score is the confidence, whatever the pack."""
    curve: tuple[tuple[float, float], ...] = ()
    """How scores become confidences; :meth:`of_pack` sets it."""
    layout: str | None = None
    """Which landmarks a pack for photographs gives, for :func:`.poses.head_angles`; :meth:`of_pack`
    sets it."""

    def of_pack(self, analyser: FaceAnalyser, references: bool) -> FaceThresholds:
        """Return the thresholds with what the pack's calibration says where nothing else was said.

        Args:
            analyser: The models.
            references: Whether there are images of the person.
        """
        pack = analyser.calibration
        known = references and pack.photographs
        return replace(
            self,
            identity=pack.identity if self.identity is None and known else self.identity,
            choice=self.choice or (REFERENCE if known else REJECT),
            curve=() if self.raw else pack.curve,
            layout=analyser.backend.layout if pack.photographs else None,
        )

    @property
    def by_key(self) -> dict[str, float | None]:
        """The thresholds by their keys in a project file."""
        return {
            "faces.minimum_confidence": self.confidence,
            "faces.minimum_share": self.share,
            "faces.minimum_side": self.side,
            "faces.minimum_identity": self.identity,
        }

    def confidence_of(self, faces: Faces, index: int = 0) -> float:
        """Return the confidence of one of the faces."""
        return float(Calibration(self.curve).confidence(float(faces.scores[index])))

    def admits_any(
        self, pixels: PixelMeasurement, faces: Faces | None, confidence: float | None = None
    ) -> bool:
        """As :meth:`admits`; of several faces one may do, where one is to be chosen."""
        if faces is None or len(faces) < 2 or self.choice in (None, REJECT):
            return self.admits(pixels, faces, confidence)
        return any(self.admits(pixels, faces.only(i), confidence) for i in range(len(faces)))

    def admits(
        self, pixels: PixelMeasurement, faces: Faces | None, confidence: float | None = None
    ) -> bool:
        """Whether an image shows one certain face that is large enough, whoever it is.

        Args:
            pixels: The image's size.
            faces: Its faces; ``None`` when they were not looked for, which is no.
            confidence: Least score, in place of this object's own.
        """
        if faces is None or len(faces) != 1:
            return False
        least = self.confidence if confidence is None else confidence
        wide, high = faces.sides()
        return (
            self.confidence_of(faces) >= least
            and face_share(pixels, faces) >= self.share
            and min(wide, high) >= self.side
        )


def face_share(pixels: PixelMeasurement, faces: Faces) -> float:
    """Return the area of the first face's box inside the image over the image's area."""
    left, top, right, bottom = (float(value) for value in faces.boxes[0])
    width = min(right, pixels.width) - max(left, 0.0)
    height = min(bottom, pixels.height) - max(top, 0.0)
    return max(width, 0.0) * max(height, 0.0) / (pixels.width * pixels.height)


def validate_faces(
    images: ImageSet,
    analyser: FaceAnalyser,
    store: FeatureStore,
    thresholds: FaceThresholds | None = None,
    references: Sequence[Path | str] = (),
    progress: Progress = silent,
) -> ImageSet:
    """Look for faces, and reject images without exactly one valid face.

    In this order an image is rejected as ``no_face``, ``several_faces``, ``low_confidence``,
    ``face_too_small`` or ``identity_mismatch``. Adds ``face_count``, ``face_confidence``,
    ``face_box``, ``face_landmarks``, ``face_share``, ``framing``, ``yaw``, ``pose`` (all of the
    most certain face), ``identity``, ``identity_similarity`` and ``identity_reference``:
    ``references`` when images of the person were given, else ``set``: the similarity is then to
    a robust centroid of the valid faces, of each subject its own.

    With a pack for photographs, ``face_score`` is the detector's own score, and what the pixels of
    the face say is added (:data:`.face_looks.LOOK_COLUMNS`). Where one of several faces is chosen,
    the columns are of that one, ``face_count`` is 1, and ``faces_found`` counts all.

    Args:
        images: The candidates; only accepted ones are looked at.
        analyser: The models.
        store: Where measurements are kept; only what it lacks is measured.
        thresholds: What a valid face is.
        references: Images of the person, one face each.
        progress: Watches.

    Raises:
        FacePackError: The face pack is missing.
        FaceChoiceError: The face of the references is to be chosen, and there are none.
        ReferenceFaceError: A reference image does not show exactly one face.
        UnreadableImageError: A reference image cannot be read.
    """
    limits = (thresholds or FaceThresholds()).of_pack(analyser, bool(references))
    target = read_references(analyser, store, references)
    images = sweep(
        images, store, analyser=analyser, identify=limits.admits,
        every_face=limits.choice != REJECT, stage="Looking for faces", progress=progress,
    )  # fmt: skip
    measured = known_pixels(images, store)
    hashes = images.table["hash"].to_list()
    known = [key for key in hashes if key]
    stored = known_faces(known, store, analyser)
    vectors = store.get(known, IDENTITY, analyser.identity_fingerprint)
    each = store.get(known, EACH_IDENTITY, analyser.identity_fingerprint)
    faces: list[Faces | None] = []
    identities: list[NDArray[np.float32] | None] = []
    found: list[int | None] = []
    strangers: dict[int, float] = {}
    for row, (key, pixels) in enumerate(zip(hashes, measured, strict=True)):
        shown = stored.get(key)
        vector = unpack_vector(vectors[key]) if key in vectors else None
        found.append(None if shown is None else len(shown))
        if shown is not None and pixels is not None and len(shown) > 1:
            valid = [limits.admits(pixels, shown.only(i)) for i in range(len(shown))]
            own = unpack_vector(each[key]) if key in each else None
            index, vector, best = chosen_face(limits.choice, shown, valid, own, target,
                                              limits.identity)  # fmt: skip
            if index is not None:
                shown = shown.only(index)
            elif best is not None:
                strangers[row] = best
        faces.append(shown)
        identities.append(vector)
    photographs = analyser.calibration.photographs
    images = _with_face_columns(images, measured, faces, limits, photographs)
    if limits.choice != REJECT:
        images = images.with_columns(pl.Series("faces_found", found, pl.Int32))
    images = _reject(images, measured, faces, limits, strangers)
    accepted = images.accepted_mask()
    valid_only = [v if ok else None for v, ok in zip(identities, accepted, strict=True)]
    note = analyser.calibration.doubt(limits.identity)
    images = replace(images, notes=(*images.notes, note)) if note else images
    return _with_identity(images, valid_only, target, limits).limited(limits.by_key)


def _with_face_columns(
    images: ImageSet,
    measured: Sequence[PixelMeasurement | None],
    faces: Sequence[Faces | None],
    limits: FaceThresholds,
    photographs: bool,
) -> ImageSet:
    """Add what faces say; of a pack for photographs also the looks, though there be no face."""
    count = [None if found is None else len(found) for found in faces]
    best = [
        (pixels, found) if pixels is not None and found is not None and len(found) else None
        for pixels, found in zip(measured, faces, strict=True)
    ]
    score = [None if b is None else float(b[1].scores[0]) for b in best]
    confidence = [None if b is None else limits.confidence_of(b[1]) for b in best]
    box = [None if b is None else b[1].boxes[0].tolist() for b in best]
    points = [None if b is None else _points(b[1]) for b in best]
    share = [None if b is None else face_share(*b) for b in best]
    views = [None if b is None else _view(*b, limits) for b in best]
    own: list[pl.Series] = []
    if limits.curve:
        own.append(pl.Series("face_score", score, pl.Float64))
    if photographs or any(b is not None and b[1].looks is not None for b in best):
        looks = [None if b is None or b[1].looks is None else b[1].looks[0] for b in best]
        own += [
            pl.Series(name, [None if k is None else float(k[i]) for k in looks], pl.Float64)
            for i, name in enumerate(LOOK_COLUMNS)
        ]
    return images.with_columns(
        pl.Series("face_count", count, pl.Int32),
        pl.Series("face_confidence", confidence, pl.Float64),
        pl.Series("face_box", box, pl.List(pl.Float32)),
        pl.Series("face_landmarks", points, pl.List(pl.Float32)),
        pl.Series("face_share", share, pl.Float64),
        pl.Series("framing", [None if v is None else v[0] for v in views], pl.String),
        pl.Series("yaw", [None if v is None else v[1] for v in views], pl.Float64),
        pl.Series("pose", [None if v is None else v[2] for v in views], pl.String),
        *own,
    )


def _points(faces: Faces) -> list[float] | None:
    """Return the first face's landmarks; ``None`` of a detector that gives none."""
    points = faces.landmarks[0].ravel()
    return points.tolist() if np.isfinite(points).all() else None


def _view(
    pixels: PixelMeasurement, faces: Faces, limits: FaceThresholds
) -> tuple[str, float | None, str | None]:
    """Return framing, yaw (1 is a full profile) and pose of the first face."""
    if limits.layout is None:
        turn = yaw(faces.landmarks[0])
        named = pose(turn, limits.three_quarter, limits.profile)
        shown = framing(face_share(pixels, faces))
    else:
        turn = head_angles(faces.landmarks[0], limits.layout)[0] / 90
        named = pose(turn, THREE_QUARTER_DEGREES / 90, PROFILE_DEGREES / 90)
        shown = framing_by_height(faces.sides()[1] / pixels.height)
    return (shown, None, None) if np.isnan(turn) else (shown, turn, named)


def _reject(
    images: ImageSet,
    measured: Sequence[PixelMeasurement | None],
    faces: Sequence[Faces | None],
    limits: FaceThresholds,
    strangers: Mapping[int, float],
) -> ImageSet:
    """Reject what is not valid; ``strangers`` has the best similarity of rows with others only."""
    reasons: list[tuple[Rejection, str] | None] = [
        None
        if found is None or pixels is None
        else _verdict(pixels, found, limits, strangers.get(row))
        for row, (pixels, found) in enumerate(zip(measured, faces, strict=True))
    ]
    for reason in (Rejection.NO_FACE, Rejection.SEVERAL_FACES, Rejection.LOW_CONFIDENCE,
                   Rejection.FACE_TOO_SMALL):  # fmt: skip
        mask = np.array([r is not None and r[0] is reason for r in reasons], dtype=bool)
        images = images.reject(mask, reason, [r[1] if r else "" for r in reasons])
    return images


def _verdict(
    pixels: PixelMeasurement, faces: Faces, limits: FaceThresholds, best: float | None = None
) -> tuple[Rejection, str] | None:
    if not len(faces):
        return Rejection.NO_FACE, "no face was found"
    if len(faces) > 1:
        several = how_many(len(faces), "face was", "faces were") + " found"
        if best is None:
            return Rejection.SEVERAL_FACES, several
        least = limits.identity or 0.0
        return Rejection.SEVERAL_FACES, (
            f"{several}, none of them the reference's: the nearest has similarity {best:.3f}, and "
            f"{least:g} is wanted"
        )
    score = limits.confidence_of(faces)
    if score < limits.confidence:
        return Rejection.LOW_CONFIDENCE, f"confidence {score:.3f} is below {limits.confidence:g}"
    if limits.admits(pixels, faces):
        return None
    wide, high = faces.sides()
    share = face_share(pixels, faces)
    return Rejection.FACE_TOO_SMALL, (
        f"the face of {wide:.0f} x {high:.0f} pixels takes {share:.2%} of the image; at least "
        f"{limits.side:g} pixels and {limits.share:.2%} are wanted"
    )


def _with_identity(
    images: ImageSet,
    identities: Sequence[NDArray[np.float32] | None],
    target: References | None,
    limits: FaceThresholds,
) -> ImageSet:
    similarity = np.full(len(images), np.nan)
    rows = np.array([i for i, vector in enumerate(identities) if vector is not None], dtype=int)
    subjects = np.array(images.table["subject"].fill_null("").to_list(), dtype=object)
    for subject in sorted(set(subjects[rows].tolist())):
        members = rows[subjects[rows] == subject]
        vectors = np.stack([identities[i] for i in members])  # type: ignore[misc]
        near = References.centre(robust_centroid(vectors)) if target is None else target
        # Stored as float16, vectors are not quite of length 1.
        similarity[members] = np.clip(near.similarity(normalised(vectors)), -1, 1)
    known = ~np.isnan(similarity)
    source = "set" if target is None else "references"
    images = images.with_columns(
        vector_column("identity", identities),
        pl.Series("identity_similarity", similarity, pl.Float64).fill_nan(None),
        pl.Series("identity_reference", [source if k else None for k in known], pl.String),
    )
    if limits.identity is None:
        return images
    strange = known & (similarity < limits.identity)
    towards = "the set's own centre" if target is None else "the reference images"
    return images.reject(
        strange,
        Rejection.IDENTITY_MISMATCH,
        [
            f"similarity {value:.3f} to {towards} is below {limits.identity:g}" if odd else ""
            for value, odd in zip(similarity, strange, strict=True)
        ],
    )


def read_references(
    analyser: FaceAnalyser, store: FeatureStore, references: Sequence[Path | str]
) -> References | None:
    """Return the identities of the reference images, measuring what the store lacks.

    Args:
        analyser: The models.
        store: Where measurements are kept.
        references: Images of the person, one face each; without any there is nothing to compare.

    Raises:
        FacePackError: The face pack is missing.
        ReferenceFaceError: An image does not show exactly one face.
        UnreadableImageError: An image cannot be read.
    """
    if not references:
        return None
    vectors = []
    for reference in map(Path, references):
        key = content_hash(reference) if reference.is_file() else ""
        stored = store.get([key], IDENTITY, analyser.identity_fingerprint)
        if key not in stored:
            image, key = read_hashed(reference)
            faces = analyser.detect(image)
            if len(faces) != 1:
                raise ReferenceFaceError(reference, len(faces))
            vector = analyser.identify([analyser.crop(image, faces.landmarks[0], faces.boxes[0])])[
                0
            ]
            stored = {key: pack_vector(vector)}
            store.put({key: faces.to_bytes()}, DETECTION, analyser.detection_fingerprint)
            store.put(stored, IDENTITY, analyser.identity_fingerprint)
        vectors.append(unpack_vector(stored[key]))
    return References.of(np.stack(vectors), single=analyser.calibration.photographs)


__all__ = [
    "LARGEST",
    "REFERENCE",
    "REJECT",
    "FaceAnalyser",
    "FacePackError",
    "FaceThresholds",
    "Faces",
    "ReferenceFaceError",
    "face_share",
    "read_references",
    "validate_faces",
]
