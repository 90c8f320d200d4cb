"""Small selections to be solved by trying every subset, without the code under test."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from character_curator.selection import Bounds


class Exhaustive:
    """All conflict-free subsets of up to 12 rows as bit rows, built without the code under test."""

    def __init__(self, rows, conflicts):
        self.subsets = (np.arange(1 << rows)[:, None] >> np.arange(rows)) & 1
        keep = np.ones(len(self.subsets), dtype=bool)
        for a, b in conflicts:
            if a != b:
                keep &= (self.subsets[:, a] & self.subsets[:, b]) == 0
        self.subsets = self.subsets[keep]

    def best(self, values, groups, total):
        """Return (size, deviation of each quota, value) of the lexicographic optimum."""
        left = self.subsets[self.subsets.sum(axis=1) <= total]
        sizes = left.sum(axis=1)
        left = left[sizes == sizes.max()]
        deviations = []
        for group in groups:
            missed = np.zeros(len(left), dtype=int)
            for value, (low, high) in enumerate(zip(group.minimum, group.maximum, strict=True)):
                got = left[:, np.asarray(group.codes) == value].sum(axis=1)
                missed += np.maximum(low - got, 0) + np.maximum(got - high, 0)
            deviations.append(int(missed.min()))
            left = left[missed == missed.min()]
        return int(sizes.max()), tuple(deviations), float((left @ values).max())


@st.composite
def instances(draw, least=1, most=10):
    n = draw(st.integers(least, most))
    value = draw(
        st.sampled_from(
            [
                st.floats(0, 1, allow_subnormal=False),
                st.integers(0, 3).map(float),  # many ties
                st.floats(-1e4, 1e4),
                st.integers(0, 20).map(lambda k: 0.74 + k * 1e-6),  # hardly apart
            ]
        )
    )
    values = np.asarray(draw(st.lists(value, min_size=n, max_size=n)))
    groups = []
    for _ in range(draw(st.integers(0, 3))):
        k = draw(st.integers(1, 3))
        codes = draw(st.lists(st.integers(-1, k - 1), min_size=n, max_size=n))
        low = np.asarray(draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)))
        width = np.asarray(draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)))
        groups.append(Bounds(np.asarray(codes), low, low + width))
    row = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(row, row), max_size=8))
    return values, groups, pairs, draw(st.integers(1, 6))
