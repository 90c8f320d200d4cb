"""Images of an evaluation: what is asked for, and what each of them shows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..analysis.face_validation import FaceThresholds, validate_faces
from ..analysis.faces import IDENTITY
from ..analysis.identities import mean_identity, normalised, robust_centroid
from ..analysis.pixels import require_readable
from ..analysis.quality import score_quality
from ..analysis.sweep import sweep
from ..counts import how_many
from ..damages import note_damage
from ..defaults import MINIMUM_QUALITY
from ..errors import CuratorError
from ..imageset import ImageSet, content_hash, unpack_vector
from ..naming import first_of
from ..plan import Request
from ..progress import Progress, silent
from ..rejection_reasons import WITHOUT_ONE_FACE
from ..requests import prompt_request
from .figures import nearest
from .prompts import Prompt

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ..analysis.embeddings import Embedder
    from ..analysis.face_analyser import FaceAnalyser
    from ..features import FeatureStore

FIRST_SEED = 1_000_000
"""Noise seed of the first image of a list of new prompts; the next has the next."""


class NoReferenceError(CuratorError):
    """A dataset shows nobody to compare with."""


def requests_for(
    prompts: Sequence[Prompt], who: str, series: str, *, neutral: str, first_seed: int = FIRST_SEED
) -> tuple[Request, ...]:
    """Return the images to make: every prompt with each of its seeds.

    A prompt without seeds of its own is made once, with the noise seed ``first_seed`` plus its
    place in the list. The noise seed is a plain seed: a KSampler with it makes the same image.

    Args:
        prompts: What to ask for.
        who: How the person is named.
        series: What the images are called together; part of their file names.
        neutral: How the person is named in the text that adherence is measured with (``caption``).
        first_seed: See above.
    """
    return tuple(
        prompt_request(
            prompt.of(who),
            number,
            subject=series,
            seed=seed,
            name=prompt.text,
            caption=prompt.of(neutral),
            noise=noise,
        )
        for number, prompt in enumerate(prompts, 1)
        for seed, noise in _seeds(prompt, number, first_seed)
    )


def _seeds(prompt: Prompt, number: int, first: int) -> list[tuple[int, int]]:
    """Return (seed, noise seed) of each image of a prompt.

    The row of a batch follows from the sum of seed and number. Were both counted up, every second
    row would stay empty, and half of each batch would be made for nothing.
    """
    return [(seed, seed) for seed in prompt.seeds] or [(first, first + number - 1)]


@dataclass(frozen=True)
class Analysers:
    """What images are measured with."""

    analyser: FaceAnalyser
    embedder: Embedder
    store: FeatureStore
    thresholds: FaceThresholds = field(default_factory=FaceThresholds)
    """What a certain face is."""
    minimum_quality: float = MINIMUM_QUALITY


@dataclass(frozen=True)
class Reference:
    """What evaluated images are compared with.

    Attributes:
        identity: The character's identity, L2-normalised, shape ``(d,)``.
        source: Whose centre that is: of ``references``, or of the ``set`` itself.
        similarities: Identity similarity of every training image; NaN without one face.
        embeddings: Of the training images, shape ``(n, e)``, L2-normalised.
        names: Their file names.
    """

    identity: NDArray[np.float32]
    source: str
    similarities: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    names: tuple[str, ...]


def measured(
    images: ImageSet, analysers: Analysers, progress: Progress = silent
) -> tuple[ImageSet, list[NDArray[np.float32] | None], NDArray[np.float32]]:
    """Look at every image as the curation would, and reject what it would reject.

    Args:
        images: Images; none is rejected yet.
        analysers: Models and thresholds.
        progress: Watches.

    Returns:
        The set with the columns of ``validate_faces`` and ``score_quality``; the identity of the
        only face of each image (``None`` without exactly one); the embeddings, shape ``(n, e)``,
        rows of zeros for images that can't be read.
    """
    store, analyser = analysers.store, analysers.analyser
    found = sweep(
        images, store, analyser=analyser, embedder=analysers.embedder,
        stage="Measuring", progress=progress,
    )  # fmt: skip
    found = validate_faces(found, analyser, store, analysers.thresholds)
    found = score_quality(found, store, minimum=analysers.minimum_quality)
    hashes = [key or "" for key in found.table["hash"]]
    vectors = store.get(hashes, IDENTITY, analyser.identity_fingerprint)
    single = found.table["face_count"] == 1
    identities = [
        unpack_vector(vectors[key]) if one and key in vectors else None
        for key, one in zip(hashes, single, strict=True)
    ]
    return found, identities, _embeddings(hashes, analysers)


def read_reference(
    images: ImageSet,
    analysers: Analysers,
    references: Sequence[Path] = (),
    progress: Progress = silent,
) -> Reference:
    """Measure a training set.

    Args:
        images: The training images.
        analysers: Models and thresholds.
        references: Images of the person, one face each, whose mean is then the identity. Without
            them it is the robust centre of the training set's faces, as in the curation.
        progress: Watches.

    Raises:
        NoReferenceError: Not one image shows exactly one face.
    """
    found, identities, embeddings = measured(images, analysers, progress)
    known = _stack(identities)
    source = "set"
    if references:
        rows = [_row_of(Path(path)) for path in references]
        _, given, _ = measured(ImageSet.from_rows(rows, images.root), analysers, progress)
        known, source = _stack(given), "references"
    if not len(known):
        raise NoReferenceError(
            f"No image of {', '.join(map(str, references)) or images.root} shows exactly one "
            "face, so there is no identity to compare with. Check the images and the face pack."
        )
    centre = mean_identity(known) if references else robust_centroid(known)
    readable = np.linalg.norm(embeddings, axis=1) > 0
    if unread := [p for p, ok in zip(found.table["path"], readable, strict=True) if not ok]:
        note_damage("training images", images.root, "left out", len(unread))
        log.warning(
            "%d of %s in %s cannot be read, and nothing is compared with them: %s",
            len(unread), how_many(len(readable), "training image"), images.root,
            first_of(unread),
        )  # fmt: skip
    names = tuple(Path(p).name for p, ok in zip(found.table["path"], readable, strict=True) if ok)
    return Reference(centre, source, similarities(identities, centre), embeddings[readable], names)


def compared(
    images: ImageSet, reference: Reference, analysers: Analysers, progress: Progress = silent
) -> tuple[ImageSet, NDArray[np.float32]]:
    """Measure evaluated images.

    Adds to the columns of :func:`measured` ``one_face`` (certain and large enough),
    ``identity_similarity`` (null without exactly one face), ``adherence`` (CLIP similarity with
    ``caption``), ``nearest_training`` and ``nearest_distance`` (1 - CLIP similarity), ``artefact``
    and ``artefact_reason``.

    Returns:
        The set, nothing rejected, and the embeddings.

    Raises:
        LostImagesError: Some of the images are not there any more.
    """
    from ..analysis.embeddings import text_vectors

    found, identities, embeddings = measured(images, analysers, progress)
    require_readable(found)
    texts = [text or "" for text in found.table["caption"]]
    distinct = list(dict.fromkeys(texts))
    vectors = text_vectors(distinct, analysers.embedder, analysers.store)
    place = {text: row for row, text in enumerate(distinct)}
    asked = vectors[[place[text] for text in texts]]
    adherence = np.einsum("ij,ij->i", embeddings.astype(np.float64), asked.astype(np.float64))
    index, distance = nearest(embeddings, reference.embeddings)
    reasons = found.table["rejection"]
    faulty = reasons.is_in([reason.value for reason in WITHOUT_ONE_FACE])
    near = [reference.names[i] if i >= 0 else None for i in index]
    found = found.with_columns(
        (~faulty.fill_null(False)).alias("one_face"),
        pl.Series("identity_similarity", similarities(identities, reference.identity)).fill_nan(
            None
        ),
        pl.Series("adherence", adherence, pl.Float64),
        pl.Series("nearest_training", near, pl.String),
        pl.Series("nearest_distance", distance, pl.Float64).fill_nan(None),
        reasons.is_not_null().alias("artefact"),
        pl.Series("artefact_reason", found.table["rejection_detail"]),
    )
    nothing = pl.lit(None, pl.String)
    cleared = found.with_columns(nothing.alias("rejection"), nothing.alias("rejection_detail"))
    return cleared, embeddings


def similarities(
    identities: Sequence[NDArray[np.float32] | None], centre: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the cosine of each identity with a centre; NaN where there is none."""
    result = np.full(len(identities), np.nan)
    rows = [i for i, vector in enumerate(identities) if vector is not None]
    if rows:
        result[rows] = np.clip(normalised(_stack(identities)) @ centre, -1, 1)
    return result


def _row_of(path: Path) -> dict[str, str]:
    try:
        return {"path": str(path.resolve()), "hash": content_hash(path)}
    except OSError as error:
        raise NoReferenceError(
            f"The reference image {path} cannot be read: {error.strerror or error}."
        ) from error


def _stack(identities: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    known = [vector for vector in identities if vector is not None]
    return np.stack(known) if known else np.zeros((0, 1), np.float32)


def _embeddings(hashes: Sequence[str], analysers: Analysers) -> NDArray[np.float32]:
    from ..analysis.embeddings import ANALYSER

    stored = analysers.store.get(hashes, ANALYSER, analysers.embedder.fingerprint)
    vectors = {key: unpack_vector(value) for key, value in stored.items()}
    width = next((len(vector) for vector in vectors.values()), 1)
    nothing = np.zeros(width, np.float32)
    return normalised(np.stack([vectors.get(key, nothing) for key in hashes]))
