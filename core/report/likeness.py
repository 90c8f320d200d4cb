"""How the embedded images lie to each other: a map, and the nearest chosen one of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from ..counts import how_many, worded
from ..imageset import ImageSet

_WIDTH, _HEIGHT, _MARGIN = 800, 480, 14


@dataclass(frozen=True, eq=False)
class Likeness:
    """What embeddings say of the rows of a table.

    Attributes:
        rows: The rows that have an embedding, ascending.
        places: Their first two principal components, shape ``(n, 2)``, each scaled to 0..1.
        explained: Share of the variance that the two hold, 0 to 1.
        nearest: Row of the chosen image (another than itself) that each is most alike; -1 if there
            is none.
        similarity: The cosine to it.
    """

    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64]
    explained: float
    nearest: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]


def likeness(images: ImageSet, selected: npt.NDArray[np.bool_]) -> Likeness | None:
    """Compare the embeddings of a set; None where fewer than three images have one."""
    if "embedding" not in images.table.columns:
        return None
    column = images.table["embedding"]
    rows = np.flatnonzero(column.is_not_null().to_numpy())
    if len(rows) < 3:
        return None
    vectors = ImageSet(images.table[rows.tolist()], images.root).embeddings().astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    places, explained = principal_places(unit)
    inside = np.flatnonzero(selected[rows])
    nearest, similarity = np.full(len(rows), -1, np.int64), np.zeros(len(rows))
    if len(inside):
        cosines = unit @ unit[inside].T
        cosines[inside, np.arange(len(inside))] = -np.inf
        best = cosines.argmax(axis=1)
        similarity = cosines[np.arange(len(rows)), best]
        known = np.isfinite(similarity)
        nearest[known] = rows[inside[best[known]]]
        similarity[~known] = 0.0
    return Likeness(rows, places, explained, nearest, similarity)


def principal_places(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Return the first two principal components of vectors, scaled to 0..1, and their share.

    The sign of each is such that its largest loading is positive: the same vectors always lie in
    the same places.
    """
    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    two = axes[:, ::-1][:, :2]
    if two.shape[1] < 2:
        two = np.concatenate([two, np.zeros((len(two), 1))], axis=1)
    signs = np.sign(two[np.abs(two).argmax(axis=0), np.arange(2)])
    places = centred @ (two * np.where(signs == 0, 1, signs))
    spread = np.ptp(places, axis=0)
    scaled = (places - places.min(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    total = float(values.sum())
    return scaled, float(values[::-1][:2].sum() / total) if total > 0 else 1.0


def map_section(
    found: Likeness | None,
    selected: npt.NDArray[np.bool_],
    clusters: Sequence[int | None],
    names: Sequence[str],
    total: int,
) -> str:
    """Draw the map: a dot an image, in the color of its cluster.

    Args:
        found: What the embeddings say.
        selected: Which rows are selected.
        clusters: Cluster of each row.
        names: What each row is called.
        total: How many rows there are in the whole set.
    """
    if found is None:
        return '<p class="quiet">Fewer than three images were embedded: there is no map.</p>'
    order = np.argsort(selected[found.rows], kind="stable")  # the selected lie on top
    count = max([1, *(cluster + 1 for cluster in clusters if cluster is not None)])
    dots = []
    for k in order.tolist():
        row = int(found.rows[k])
        x = _MARGIN + found.places[k, 0] * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - found.places[k, 1] * (_HEIGHT - 2 * _MARGIN)
        kind = "dot in" if selected[row] else "dot"
        hue = "" if clusters[row] is None else f' style="--h:{360 * (clusters[row] or 0) // count}"'
        dots.append(
            f'<a href="#i{row}"><circle class="{kind}" data-i="{row}" cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{6 if selected[row] else 4}"{hue}><title>{escape(names[row])}</title></circle></a>'
        )
    without = total - len(found.rows)
    said = (
        f"Each dot is an image, the selected with a rim; colors are clusters. The two axes are the "
        f"first principal components of the embeddings, and hold {found.explained:.0%} of what "
        f"tells the images apart: dots that lie together may still differ."
    )
    if without:
        said += (
            f" {how_many(without, 'image')} {worded(without, 'has', 'have')} no embedding (or "
            f"{worded(without, 'is', 'are')} not listed) and {worded(without, 'is', 'are')} not "
            "here."
        )
    return (
        f'<svg class="chart" id="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Map of the embeddings">{"".join(dots)}</svg>'
        f'<p class="quiet">{escape(said)}</p>'
    )
