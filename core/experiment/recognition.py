"""A recogniser to try training sets with: a linear classifier on the vectors of whole images.

Images are embedded by the project's CLIP model, which stays as it is; a multinomial logistic
regression learns from the vectors whom an image shows. Nothing of it is tuned to the set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..imageset import unpack_vector
from ..reading.disturbances import KINDS

STRENGTH_OF_PENALTY = 10.0
"""``C`` of the logistic regression: how little it is held back."""
_MOST_STEPS = 5000

PART_REAL, PART_SYNTHETIC, PART_COPY, PART_CLASSIC, PART_UNSEEN = (
    "real", "synthetic", "copy", "classic", "unseen",
)  # fmt: skip
"""What a row of a run's vectors is: a real image, an undisturbed synthetic one, a disturbed copy of
one, a disturbed copy of a real image, an image that nothing was trained on."""

AS_THEY_ARE = "as they are"
CONDITIONS: tuple[str, ...] = (AS_THEY_ARE, *KINDS)
"""What the recogniser is asked about: unseen images as they are, and disturbed by each kind."""

ARMS: Mapping[str, str] = {
    "real": "real alone",
    "synthetic": "+ synthetic, undisturbed",
    **{kind: f"+ synthetic, a part of them by {kind}" for kind in KINDS},
    "augmented": "+ synthetic, that part by all four in turn",
    "classic": "+ disturbed copies of the real ones, no LoRA",
}
"""Arms in the order of the table; but for the first all have the same number of images more."""

Vectors = NDArray[np.float32]


def vectors_of(table: pl.DataFrame) -> Vectors:
    """Return the vectors of a table's rows, normalised, shape ``(n, d)``."""
    values = table["embedding"].to_list()
    found = np.stack([unpack_vector(value) for value in values])
    norms = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return np.asarray(found / norms, dtype=np.float32)


def rows_of_arm(table: pl.DataFrame, arm: str, disturbed: float) -> pl.DataFrame:
    """Return the rows that a recogniser learns one subject from, in one arm.

    Args:
        table: The vectors of one run: columns ``part``, ``disturbance``, ``of`` (the hash of what
            was disturbed), ``hash``, ``turn`` (its number among copies of its kind) and
            ``embedding``.
        arm: One of :data:`ARMS`.
        disturbed: Which share of the synthetic images gives way to disturbed copies of them.
    """
    real = table.filter(pl.col("part") == PART_REAL)
    synthetic = table.filter(pl.col("part") == PART_SYNTHETIC)
    if arm == "real":
        return real
    if arm == "classic":
        copies = table.filter(pl.col("part") == PART_CLASSIC)
        return pl.concat([real, copies.head(synthetic.height)])
    if arm == "synthetic":
        return pl.concat([real, synthetic])
    kinds = KINDS if arm == "augmented" else (arm,)
    copies = table.filter(pl.col("part") == PART_COPY)
    wanted = round(synthetic.height * disturbed)
    taken: list[pl.DataFrame] = []
    gone: set[str] = set()
    for number, kind in enumerate(kinds):
        share = wanted * (number + 1) // len(kinds) - wanted * number // len(kinds)
        of_kind = copies.filter((pl.col("disturbance") == kind) & ~pl.col("of").is_in(list(gone)))
        some = of_kind.sort("turn").head(share)
        gone |= set(some["of"])
        taken.append(some)
    kept = synthetic.filter(~pl.col("hash").is_in(list(gone)))
    return pl.concat([real, kept, *taken])


def accuracies(tables: Mapping[str, pl.DataFrame], disturbed: float) -> dict[str, dict[str, float]]:
    """Return how many unseen images are recognised, by arm and condition.

    Args:
        tables: The vectors of each subject's run, by its name.
        disturbed: As of :func:`rows_of_arm`.

    Returns:
        Shares from 0 to 1; the key ``all`` is the mean over the conditions.
    """
    from sklearn.linear_model import LogisticRegression

    names = list(tables)
    found: dict[str, dict[str, float]] = {}
    for arm in ARMS:
        rows = [rows_of_arm(tables[name], arm, disturbed) for name in names]
        model = LogisticRegression(C=STRENGTH_OF_PENALTY, max_iter=_MOST_STEPS)
        model.fit(
            np.concatenate([vectors_of(one) for one in rows]),
            np.repeat(np.arange(len(names)), [one.height for one in rows]),
        )
        shares = {c: _share(model.predict, tables, names, c) for c in CONDITIONS}
        found[arm] = {**shares, "all": float(np.mean(list(shares.values())))}
    return found


def _share(
    predict: object, tables: Mapping[str, pl.DataFrame], names: Sequence[str], condition: str
) -> float:
    """Return the share of unseen images that are recognised: of each subject, then their mean."""
    asked = "" if condition == AS_THEY_ARE else condition
    right = []
    for number, name in enumerate(names):
        unseen = tables[name].filter(
            (pl.col("part") == PART_UNSEEN) & (pl.col("disturbance") == asked)
        )
        answers = predict(vectors_of(unseen))  # type: ignore[operator]
        right.append(float(np.mean(answers == number)))
    return float(np.mean(right))
