"""Face validation: exactly one face, certain, large enough, and of the right person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..defaults import MINIMUM_CONFIDENCE, MINIMUM_FACE_SHARE, MINIMUM_FACE_SIDE
from ..errors import CuratorError
from ..imageset import ImageSet, content_hash, pack_vector, unpack_vector, vector_column
from ..progress import Progress, silent
from ..rejection_reasons import Rejection
from .decoding import read_image
from .face_analyser import DETECTION, IDENTITY, FaceAnalyser, Faces
from .face_packs import FacePackError
from .identities import mean_identity, normalised, robust_centroid
from .pixels import PixelMeasurement, known_pixels
from .poses import PROFILE_FROM, THREE_QUARTER_FROM, framing, pose, yaw
from .sweep import sweep

if TYPE_CHECKING:
    from ..features import FeatureStore


class ReferenceFaceError(CuratorError):
    """A reference image does not show exactly one face."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(
            f"The reference image {path} shows {count or 'no'} face{'s' * (count != 1)}; exactly "
            "one is needed. Crop it, or name another image."
        )


@dataclass(frozen=True)
class FaceThresholds:
    """What a valid face is."""

    confidence: float = MINIMUM_CONFIDENCE
    """Least score of the detector; below it the seed-document quality formula gives 0 as well."""
    share: float = MINIMUM_FACE_SHARE
    """Least area of the face box, as a share of the image's."""
    side: float = MINIMUM_FACE_SIDE
    """Least width and height of the face box in pixels."""
    identity: float | None = None
    """Least cosine similarity to the reference identity; ``None`` only reports it."""
    three_quarter: float = THREE_QUARTER_FROM
    """Least absolute yaw that is called three-quarter."""
    profile: float = PROFILE_FROM
    """Least absolute yaw that is called a profile; see :data:`poses.PROFILE_FROM`."""

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
        wide, high = _sides(faces)
        return (
            float(faces.scores[0]) >= least
            and face_share(pixels, faces) >= self.share
            and min(wide, high) >= self.side
        )


def _sides(faces: Faces) -> tuple[float, float]:
    left, top, right, bottom = (float(value) for value in faces.boxes[0])
    return right - left, bottom - top


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

    Args:
        images: The candidates; only accepted ones are looked at.
        analyser: The models.
        store: Where measurements are kept; only what it lacks is measured.
        thresholds: What a valid face is.
        references: Images of the person, one face each.
        progress: Watches.

    Raises:
        FacePackError: The face pack is missing.
        ReferenceFaceError: A reference image does not show exactly one face.
        UnreadableImageError: A reference image cannot be read.
    """
    limits = thresholds or FaceThresholds()
    target = _reference_identity(analyser, store, references) if references else None
    images = sweep(
        images, store, analyser=analyser, identify=limits.admits, stage="Looking for faces",
        progress=progress,
    )  # fmt: skip
    measured = known_pixels(images, store)
    hashes = images.table["hash"].to_list()
    known = [key for key in hashes if key]
    stored = store.get(known, DETECTION, analyser.detection_fingerprint)
    faces = [Faces.from_bytes(stored[key]) if key in stored else None for key in hashes]
    images = _with_face_columns(images, measured, faces, limits)
    images = _reject(images, measured, faces, limits)
    vectors = store.get(known, IDENTITY, analyser.identity_fingerprint)
    accepted = images.accepted_mask()
    identities = [
        unpack_vector(vectors[key]) if accepted[i] and key in vectors else None
        for i, key in enumerate(hashes)
    ]
    return _with_identity(images, identities, target, limits)


def _with_face_columns(
    images: ImageSet,
    measured: Sequence[PixelMeasurement | None],
    faces: Sequence[Faces | None],
    limits: FaceThresholds,
) -> ImageSet:
    count = [None if found is None else len(found) for found in faces]
    best = [
        (pixels, found) if pixels is not None and found is not None and len(found) else None
        for pixels, found in zip(measured, faces, strict=True)
    ]
    confidence = [None if b is None else float(b[1].scores[0]) for b in best]
    box = [None if b is None else b[1].boxes[0].tolist() for b in best]
    points = [None if b is None else b[1].landmarks[0].ravel().tolist() for b in best]
    share = [None if b is None else face_share(*b) for b in best]
    turn = [None if b is None else yaw(b[1].landmarks[0]) for b in best]
    shown = [None if t is None or np.isnan(t) else t for t in turn]
    return images.with_columns(
        pl.Series("face_count", count, pl.Int32),
        pl.Series("face_confidence", confidence, pl.Float64),
        pl.Series("face_box", box, pl.List(pl.Float32)),
        pl.Series("face_landmarks", points, pl.List(pl.Float32)),
        pl.Series("face_share", share, pl.Float64),
        pl.Series("framing", [None if s is None else framing(s) for s in share], pl.String),
        pl.Series("yaw", shown, pl.Float64),
        pl.Series(
            "pose",
            [None if t is None else pose(t, limits.three_quarter, limits.profile) for t in shown],
            pl.String,
        ),
    )


def _reject(
    images: ImageSet,
    measured: Sequence[PixelMeasurement | None],
    faces: Sequence[Faces | None],
    limits: FaceThresholds,
) -> ImageSet:
    reasons: list[tuple[Rejection, str] | None] = [
        None if found is None or pixels is None else _verdict(pixels, found, limits)
        for pixels, found in zip(measured, faces, strict=True)
    ]
    for reason in (Rejection.NO_FACE, Rejection.SEVERAL_FACES, Rejection.LOW_CONFIDENCE,
                   Rejection.FACE_TOO_SMALL):  # fmt: skip
        mask = np.array([r is not None and r[0] is reason for r in reasons], dtype=bool)
        images = images.reject(mask, reason, [r[1] if r else "" for r in reasons])
    return images


def _verdict(
    pixels: PixelMeasurement, faces: Faces, limits: FaceThresholds
) -> tuple[Rejection, str] | None:
    if not len(faces):
        return Rejection.NO_FACE, "no face was found"
    if len(faces) > 1:
        return Rejection.SEVERAL_FACES, f"{len(faces)} faces were found"
    score = float(faces.scores[0])
    if score < limits.confidence:
        return Rejection.LOW_CONFIDENCE, f"confidence {score:.3f} is below {limits.confidence:g}"
    if limits.admits(pixels, faces):
        return None
    wide, high = _sides(faces)
    share = face_share(pixels, faces)
    return Rejection.FACE_TOO_SMALL, (
        f"the face of {wide:.0f} x {high:.0f} pixels takes {share:.2%} of the image; at least "
        f"{limits.side:g} pixels and {limits.share:.2%} are wanted"
    )


def _with_identity(
    images: ImageSet,
    identities: Sequence[NDArray[np.float32] | None],
    target: NDArray[np.float32] | None,
    limits: FaceThresholds,
) -> ImageSet:
    similarity = np.full(len(images), np.nan)
    rows = np.array([i for i, vector in enumerate(identities) if vector is not None], dtype=int)
    subjects = np.array(images.table["subject"].fill_null("").to_list(), dtype=object)
    for subject in sorted(set(subjects[rows].tolist())):
        members = rows[subjects[rows] == subject]
        vectors = np.stack([identities[i] for i in members])  # type: ignore[misc]
        centre = robust_centroid(vectors) if target is None else target
        # Stored as float16, vectors are not quite of length 1.
        similarity[members] = np.clip(normalised(vectors) @ centre, -1, 1)
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


def _reference_identity(
    analyser: FaceAnalyser, store: FeatureStore, references: Sequence[Path | str]
) -> NDArray[np.float32]:
    """Return the mean identity of the reference images, measuring what the store lacks."""
    vectors = []
    for reference in map(Path, references):
        key = content_hash(reference) if reference.is_file() else ""
        stored = store.get([key], IDENTITY, analyser.identity_fingerprint)
        if key not in stored:
            image = read_image(reference)
            faces = analyser.detect(image)
            if len(faces) != 1:
                raise ReferenceFaceError(reference, len(faces))
            vector = analyser.identify([analyser.crop(image, faces.landmarks[0])])[0]
            stored = {key: pack_vector(vector)}
            store.put({key: faces.to_bytes()}, DETECTION, analyser.detection_fingerprint)
            store.put(stored, IDENTITY, analyser.identity_fingerprint)
        vectors.append(unpack_vector(stored[key]))
    return mean_identity(np.stack(vectors))


__all__ = [
    "FaceAnalyser",
    "FacePackError",
    "FaceThresholds",
    "Faces",
    "ReferenceFaceError",
    "face_share",
    "validate_faces",
]
