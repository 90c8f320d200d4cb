"""How much the images of a pack show one character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.diversity import mean_pairwise_distance, vendi_score
from ..analysis.faces import IDENTITY
from ..analysis.identities import References, normalised, robust_centroid
from ..evaluation.figures import Share, own_threshold, passes
from ..imageset import ImageSet, unpack_vector

if TYPE_CHECKING:
    from ..analysis.face_analyser import FaceAnalyser
    from ..features import FeatureStore

REFERENCES, DATASET, PACK, VALIDATED = "references", "dataset", "pack", "validation"
_DIGITS = 3


@dataclass(frozen=True)
class Consistency:
    """How alike the images of a pack are.

    Attributes:
        against: Whose centre identities are compared with: the ``references``, the faces of the
            ``dataset`` that the LoRA was trained on, those of the ``pack`` itself, or whatever
            the ``validation`` of the faces has compared them with.
        identity: Cosine similarity of each image to it; NaN without one face.
        threshold: What all but one in twenty of the dataset's own faces reach; None without one.
        same: Share of the images that reach it, with Wilson's interval at 95 %.
        clip: Mean cosine similarity of any two images, by what they show; None where fewer than two
            are embedded.
        vendi: The effective number of different images (Vendi score); None where none is embedded.
        folders: Mean and least identity similarity in each folder of the pack.
    """

    against: str
    identity: NDArray[np.float64]
    threshold: float | None
    same: Share | None
    clip: float | None
    vendi: float | None
    folders: dict[str, tuple[float, float]]

    @property
    def mean(self) -> float | None:
        """Mean identity similarity."""
        known = self.identity[~np.isnan(self.identity)]
        return float(known.mean()) if len(known) else None

    @property
    def least(self) -> float | None:
        """Least identity similarity."""
        known = self.identity[~np.isnan(self.identity)]
        return float(known.min()) if len(known) else None

    def identity_mapping(self) -> dict[str, Any]:
        """Return the figures of identity, as the manifest says them."""
        return {
            "against": self.against,
            "mean": _rounded(self.mean),
            "least": _rounded(self.least),
            "threshold": _rounded(self.threshold),
            "same_character": None if self.same is None else self.same.as_mapping(),
            "without_one_face": int(np.isnan(self.identity).sum()),
            "folders": {
                name: {"mean": _rounded(mean), "least": _rounded(least)}
                for name, (mean, least) in self.folders.items()
            },
        }

    def as_mapping(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        return {
            "identity": self.identity_mapping(),
            "clip_similarity": _rounded(self.clip),
            "vendi_score": _rounded(self.vendi),
        }


def consistency(
    images: ImageSet,
    folders: Sequence[str],
    identities: Sequence[NDArray[np.float32] | None],
    *,
    references: References | None = None,
    dataset: Sequence[NDArray[np.float32] | None] = (),
) -> Consistency:
    """Measure a pack's images against the character, and against each other.

    Args:
        images: Those of the pack, with the columns of ``validate_faces`` and ``embed``.
        folders: The folder of each.
        identities: Of the one face in each, see :func:`identities_of`.
        references: Whom the project's reference images show.
        dataset: Identities of the faces that the LoRA was trained on.
    """
    known = [vector for vector in dataset if vector is not None]
    own = [vector for vector in identities if vector is not None]
    threshold, against, centre = None, PACK, references
    if centre is not None:
        against = REFERENCES
    elif known:
        centre, against = References.centre(robust_centroid(np.stack(known))), DATASET
        threshold = own_threshold(centre.similarity(normalised(np.stack(known))))
    elif own:
        centre = References.centre(robust_centroid(np.stack(own)))
    identity = np.full(len(images), np.nan)
    if centre is not None and own:
        rows = [i for i, vector in enumerate(identities) if vector is not None]
        identity[rows] = centre.similarity(normalised(np.stack(own)))
    return _summed(images, folders, identity, against, threshold)


def as_validated(images: ImageSet, folders: Sequence[str]) -> Consistency:
    """Measure a pack's images by what their columns say already.

    Args:
        images: Those of the pack; what was not validated or embedded has no figures.
        folders: The folder of each.
    """
    identity = np.full(len(images), np.nan)
    if "identity_similarity" in images.table.columns:
        identity = images.table["identity_similarity"].cast(float).fill_null(np.nan).to_numpy()
    return _summed(images, folders, np.asarray(identity, np.float64), VALIDATED, None)


def _summed(
    images: ImageSet,
    folders: Sequence[str],
    identity: NDArray[np.float64],
    against: str,
    threshold: float | None,
) -> Consistency:
    parts = {}
    for name in sorted(set(folders)):
        values = identity[[folder == name for folder in folders]]
        values = values[~np.isnan(values)]
        if len(values):
            parts[name] = (float(values.mean()), float(values.min()))
    vectors = None
    if "embedding" in images.table.columns:
        embedded = images.filter(images.table["embedding"].is_not_null())
        vectors = embedded.embeddings() if len(embedded) else None
    return Consistency(
        against,
        identity,
        threshold,
        None if threshold is None else Share.of(passes(identity, threshold)),
        None if vectors is None or len(vectors) < 2 else 1 - mean_pairwise_distance(vectors),
        None if vectors is None else vendi_score(vectors),
        parts,
    )


def identities_of(
    images: ImageSet, analyser: FaceAnalyser, store: FeatureStore
) -> list[NDArray[np.float32] | None]:
    """Return the identity of the one face in each image; None where there is not one."""
    keys = [key or "" for key in images.table["hash"]]
    found = store.get(keys, IDENTITY, analyser.identity_fingerprint)
    return [
        unpack_vector(found[key]) if count == 1 and key in found else None
        for key, count in zip(keys, images.table["face_count"], strict=True)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, _DIGITS)
