"""Several subjects beside each other: whom does each image resemble most?

A rule of thumb such as "similarity of at least 0.6" says nothing of a subject that has a look-alike
in the same portfolio. What is asked here is relative: no image of A may be nearer to B than to A.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..imageset import ImageSet, unpack_vector
from ..rejection_reasons import Rejection
from .identities import References, normalised, robust_centroid

_STAGE = "'validate_faces'"


@dataclass(frozen=True)
class Confusion:
    """The table of a portfolio: the images of each subject against the identity of each.

    Attributes:
        subjects: Their names, in the order of rows and columns.
        images: How many images of each were compared.
        similarity: Mean cosine similarity of the images of a row to the identity of a column,
            NaN where there is none; shape ``(n, n)``.
        nearer: How many images of a row are nearer to the identity of a column than to their
            own's, or not nearer to their own's by the margin that was asked for; shape ``(n, n)``,
            0 on the diagonal. An image counts for the subject that it is nearest to.
        least: By how much the worst image of a row is nearer to its own than to any other; NaN
            without images, negative where one is confused.
    """

    subjects: tuple[str, ...]
    images: tuple[int, ...]
    similarity: NDArray[np.float64]
    nearer: NDArray[np.int64]
    least: tuple[float, ...]

    @property
    def confused(self) -> int:
        """How many images resemble another subject more than their own."""
        return int(self.nearer.sum())

    def as_mapping(self) -> dict[str, Any]:
        """Return the table as JSON knows it, rows by subject; unknown figures are null."""
        return {
            name: {
                "images": self.images[row],
                "similarity": {
                    other: _known(self.similarity[row, column])
                    for column, other in enumerate(self.subjects)
                },
                "nearer_to": {
                    other: int(self.nearer[row, column])
                    for column, other in enumerate(self.subjects)
                    if self.nearer[row, column]
                },
                "least_margin": _known(self.least[row]),
            }
            for row, name in enumerate(self.subjects)
        }

    def markdown(self) -> str:
        """Return the table as Markdown: mean similarities, confused images, least margin."""
        head = ["images of", "images", *(f"to {name}" for name in self.subjects)]
        head += ["nearer to another", "least margin"]
        lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        for row, name in enumerate(self.subjects):
            cells = [name, str(self.images[row])]
            for column in range(len(self.subjects)):
                value = self.similarity[row, column]
                text = "–" if np.isnan(value) else f"{value:.3f}"
                cells.append(f"**{text}**" if row == column else text)
            others = [
                f"{int(self.nearer[row, column])} ({other})"
                for column, other in enumerate(self.subjects)
                if self.nearer[row, column]
            ]
            least = "–" if np.isnan(self.least[row]) else f"{self.least[row]:.3f}"
            cells += [", ".join(others) or "0", least]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def identities_of(
    images: ImageSet, given: Mapping[str, References] | None = None
) -> dict[str, References]:
    """Return who each subject is: as given, else the robust centre of its own images' faces.

    Args:
        images: With ``identity``, which face validation adds.
        given: Of the subjects that there are reference images of.

    Returns:
        By name; a subject without any valid face is not among them.
    """
    images.require("identity", _STAGE)
    known = images.table.select(_subject(), "identity").drop_nulls("identity")
    found = dict(given or {})
    for (name,), members in known.group_by("subject", maintain_order=True):
        if str(name) not in found:
            vectors = np.stack([unpack_vector(value) for value in members["identity"]])
            found[str(name)] = References.centre(robust_centroid(vectors))
    return dict(sorted(found.items()))


def reject_confused(
    images: ImageSet, identities: Mapping[str, References], margin: float = 0.0
) -> ImageSet:
    """Reject images that resemble another subject more than their own.

    Adds ``nearest_other``, the other subject that an image resembles most, and
    ``other_similarity``, its cosine similarity to that one; both are null without a valid face or
    without another subject. Images that something has rejected before keep that reason.

    Args:
        images: With ``subject`` and ``identity``.
        identities: Who each subject is, the images' own and all others.
        margin: By how much an image must be nearer to its own subject, in cosine similarity.
    """
    near = _compared(images, identities)
    names = np.array([*near.names, ""], dtype=object)
    images = images.with_columns(
        pl.Series(
            "nearest_other",
            [
                str(names[i]) if known else None
                for i, known in zip(near.other, near.both, strict=True)
            ],
            dtype=pl.String,
        ),
        pl.Series("other_similarity", near.other_similarity, pl.Float64).fill_nan(None),
    )
    confused = near.confused(margin)
    wanted = f", and {margin:g} more is wanted" if margin else ""
    details = [
        f"similarity {there:.3f} to the subject '{names[other]}', {own:.3f} to its own{wanted}"
        if odd
        else ""
        for own, there, other, odd in zip(
            near.own_similarity, near.other_similarity, near.other, confused, strict=True
        )
    ]
    return images.reject(confused, Rejection.OTHER_SUBJECT, details)


def confusion(
    images: ImageSet,
    identities: Mapping[str, References],
    margin: float = 0.0,
    subjects: Iterable[str] | None = None,
) -> Confusion:
    """Compare the images of each subject with the identity of each.

    Args:
        images: With ``subject`` and ``identity``; those without a valid face do not count.
        identities: Who each subject is.
        margin: By how much an image must be nearer to its own subject.
        subjects: The order of rows and columns; that of ``identities`` unless given.
    """
    order = tuple(subjects) if subjects is not None else tuple(identities)
    near = _compared(images, identities)
    place = {name: i for i, name in enumerate(order)}
    similarity = np.full((len(order), len(order)), np.nan)
    nearer = np.zeros((len(order), len(order)), np.int64)
    least, counts = [], []
    confused = near.confused(margin)
    gaps = near.own_similarity - near.other_similarity
    for row, name in enumerate(order):
        mine = np.array([subject == name for subject in near.subjects], dtype=bool) & near.known
        counts.append(int(mine.sum()))
        for column, other in enumerate(near.names):
            if mine.any() and other in place:
                similarity[row, place[other]] = near.similarity[mine, column].mean()
            taken = mine & confused & (near.other == column)
            if other in place:
                nearer[row, place[other]] = int(taken.sum())
        own = gaps[mine & near.both]
        least.append(float(own.min()) if len(own) else float("nan"))
    return Confusion(order, tuple(counts), similarity, nearer, tuple(least))


@dataclass(frozen=True)
class _Compared:
    """Each image against each identity.

    Attributes:
        names: Of the identities, in the order of columns.
        subjects: Whom each image is of.
        similarity: Cosine similarity, shape ``(images, names)``, NaN without a valid face.
        own_similarity: To the image's own subject.
        other: The column of the other subject that it resembles most; -1 without one.
        other_similarity: To that one.
    """

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    similarity: NDArray[np.float64]
    own_similarity: NDArray[np.float64]
    other: NDArray[np.int64]
    other_similarity: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether an image has a face that was compared."""
        return np.asarray(~np.isnan(self.similarity).all(axis=1), dtype=bool)

    @property
    def both(self) -> NDArray[np.bool_]:
        """Whether an image was compared with its own subject and with another."""
        return np.asarray(~np.isnan(self.own_similarity) & ~np.isnan(self.other_similarity))

    def confused(self, margin: float) -> NDArray[np.bool_]:
        """Whether an image is nearer to another, or too little nearer to its own."""
        gap = self.own_similarity - self.other_similarity
        return np.asarray(self.both & ((gap < margin) | (gap < 0)), dtype=bool)


def _compared(images: ImageSet, identities: Mapping[str, References]) -> _Compared:
    images.require("identity", _STAGE)
    names = tuple(identities)
    subjects = tuple(images.table.select(_subject())["subject"])
    similarity = np.full((len(images), len(names)), np.nan)
    rows = np.flatnonzero(images.table["identity"].is_not_null().to_numpy())
    if len(rows) and names:
        faces = [unpack_vector(images.table["identity"][int(i)]) for i in rows]
        vectors = normalised(np.stack(faces))
        for column, name in enumerate(names):
            similarity[rows, column] = np.clip(identities[name].similarity(vectors), -1, 1)
    own = np.full(len(images), np.nan)
    others = similarity.copy()
    for row, subject in enumerate(subjects):
        if subject in names:
            own[row] = similarity[row, names.index(subject)]
            others[row, names.index(subject)] = np.nan
    compared = ~np.isnan(others).all(axis=1) if names else np.zeros(len(images), bool)
    nearest = np.full(len(images), -1, np.int64)
    there = np.full(len(images), np.nan)
    if compared.any():
        nearest[compared] = np.nanargmax(others[compared], axis=1)
        there[compared] = np.nanmax(others[compared], axis=1)
    return _Compared(names, subjects, similarity, own, nearest, there)


def _subject() -> pl.Expr:
    return pl.col("subject").fill_null("")


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
