"""A table of portraits as the seed-document recipe makes them, without the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from character_curator.imageset import ImageSet
from character_curator.selection import Quota


def portfolio(n: int = 400, **columns) -> ImageSet:
    """Return ``n`` rows; ``columns`` are functions of a row's number and the row."""
    random = np.random.default_rng(0)
    rows = [
        {
            "path": f"char_{i:05}.png",
            "hash": f"{i:064x}",
            "seed": 966983 + int(random.integers(10)),
            "kind": "original" if random.random() < 0.26 else "scenario",
            "cluster": int(random.integers(8)),
            "quality": float(random.beta(6, 3)),
            "rejection": "no_face" if i % 20 == 3 else None,
            "rejection_detail": "none found" if i % 20 == 3 else None,
        }
        for i in range(n)
    ]
    for name, of_row in columns.items():
        for i, row in enumerate(rows):
            row[name] = of_row(i, row)
    return ImageSet.from_rows(rows, Path("somewhere"))


RECIPE = (
    Quota("seed", exact=7),
    Quota("kind", exact={"original": 18, "scenario": 52}),
    Quota("cluster", minimum=8, maximum=10),
)
