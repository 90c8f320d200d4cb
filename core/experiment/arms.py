"""The arms of an experiment: which images each trains on, and the common validation set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..analysis import clusters, duplicates
from ..analysis.embed import embed
from ..analysis.face_validation import FaceThresholds, validate_faces
from ..analysis.quality import score_quality
from ..analysis.sweep import sweep
from ..counts import how_many, worded
from ..errors import CuratorError
from ..imageset import ImageSet
from ..progress import Progress, silent
from ..rejection_reasons import WITHOUT_ONE_FACE, Rejection
from ..selection import Quota, select

if TYPE_CHECKING:
    from ..analysis.embeddings import Embedder
    from ..analysis.face_analyser import FaceAnalyser
    from ..defaults import Formula
    from ..features import FeatureStore

ARMS: Mapping[str, str] = {
    "raw": "all raw images",
    "faces": "faces only: every image with one valid face",
    "quality": "+ quality: of those, every image of the minimum quality",
    "clusters": "+ clusters: of those, the best, balanced over the clusters",
    "curated": "+ balance: the curated set, under all quotas",
}
"""Arms in the order in which curation's stages are added."""

_FACE_REASONS = [
    reason.value
    for reason in (*WITHOUT_ONE_FACE, Rejection.IDENTITY_MISMATCH, Rejection.OTHER_SUBJECT)
]


class TooFewCandidatesError(CuratorError):
    """Too few images pass the curation for an experiment."""


@dataclass(frozen=True)
class Curation:
    """How images are curated: a project's thresholds, models and quotas."""

    thresholds: FaceThresholds
    minimum_quality: float
    references: tuple[Path, ...]
    clusters: int
    random_state: int
    duplicates: float
    total: int
    quotas: tuple[Quota, ...]
    formula: Formula | None = None


@dataclass(frozen=True)
class ArmAssignment:
    """What is trained on and validated with, as rows of one set.

    Attributes:
        images: Every raw image, with what the analysis found.
        rows: By arm, the positions of its images, in the set's order.
        validation: Positions of the images that no arm trains on.
    """

    images: ImageSet
    rows: Mapping[str, tuple[int, ...]]
    validation: tuple[int, ...]


def analysed(
    images: ImageSet,
    curation: Curation,
    analyser: FaceAnalyser,
    embedder: Embedder,
    store: FeatureStore,
    progress: Progress = silent,
) -> ImageSet:
    """Measure every image by every stage, so that each stage's effect can be told apart.

    The curation itself looks for no face where quality is hopeless; here every image is looked
    at, and rejected by faces first and by quality then.
    """
    found = sweep(
        images, store, analyser=analyser, embedder=embedder, stage="Measuring", progress=progress
    )
    found = validate_faces(
        found, analyser, store, curation.thresholds, curation.references, progress
    )
    found = score_quality(
        found, store, minimum=curation.minimum_quality, progress=progress, formula=curation.formula
    )
    found = embed(found, embedder, store, progress)
    return clusters.cluster(found, curation.clusters, curation.random_state, embedder, store=store)


def make_arms(images: ImageSet, curation: Curation, validation: int) -> ArmAssignment:
    """Hold out the common validation set, then choose every arm's images from the rest.

    The validation set is drawn by content hash from the images that pass faces and quality: it
    shows what the LoRA shall make, and no arm trains on it.

    Args:
        images: From :func:`analysed`.
        curation: Thresholds and quotas.
        validation: Images to hold out.

    Raises:
        TooFewCandidatesError: Fewer than twice as many images pass faces and quality.
    """
    passed = np.flatnonzero(images.accepted_mask())
    if len(passed) < max(2, 2 * validation):
        raise TooFewCandidatesError(
            f"Only {len(passed):,} of {how_many(len(images), 'image')} "
            f"{worded(len(passed), 'passes', 'pass')} faces and quality: too few to hold "
            f"out {validation} and train on the rest. Lower the thresholds, generate more "
            "images, or hold out fewer (--validation)."
        )
    hashes = images.table["hash"].to_list()
    held_out = sorted(passed.tolist(), key=lambda row: (_draw(hashes[row] or ""), row))[:validation]
    # Copies of a held-out file, whatever their names, are held out with it.
    taken = {hashes[row] for row in held_out}
    free = np.array([key not in taken for key in hashes])
    table = images.table.with_row_index("_row").filter(pl.Series(free))
    rest = ImageSet(table, images.root)
    reasons = table["rejection"]
    readable = reasons.is_null() | (reasons != Rejection.UNREADABLE.value)
    rows = {
        "raw": _rows(table, readable),
        "faces": _rows(table, ~reasons.is_in(_FACE_REASONS).fill_null(False)),
        "quality": _rows(table, reasons.is_null()),
    }
    pairs = duplicates.duplicate_pairs(rest, curation.duplicates)
    by_cluster = [quota for quota in curation.quotas if quota.column == "cluster"]
    if not by_cluster:
        by_cluster = [_even(rest, curation)]
    for name, quotas in (("clusters", by_cluster), ("curated", list(curation.quotas))):
        chosen = select(rest, curation.total, quotas, conflicts=pairs).images.table
        rows[name] = _rows(chosen, chosen["selected"].fill_null(False))
    return ArmAssignment(images, {name: rows[name] for name in ARMS}, tuple(sorted(held_out)))


def _even(images: ImageSet, curation: Curation) -> Quota:
    """Return the quota that spreads a selection evenly over the clusters."""
    present = images.accepted.table["cluster"].n_unique()
    least = curation.total // max(1, present)
    return Quota.parse(f"cluster={least}..")


def _rows(table: pl.DataFrame, mask: pl.Series) -> tuple[int, ...]:
    return tuple(int(row) for row in table["_row"].filter(mask))


def _draw(digest: str) -> str:
    return hashlib.sha256(f"experiment validation {digest}".encode()).hexdigest()


def paths_of(arms: ArmAssignment, rows: Sequence[int]) -> tuple[str, ...]:
    """Return the names of images."""
    return tuple(arms.images.table["path"].gather(list(rows)).to_list())
