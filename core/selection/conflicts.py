"""The graph of images that must not be selected together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Conflicts:
    """An undirected graph over ``size`` items, as sorted adjacency (compressed sparse rows).

    Attributes:
        pairs: Shape ``(m, 2)``, each pair once, the smaller item first, in lexicographic order.
        starts: Shape ``(size + 1,)``; the neighbours of ``i`` are
            ``neighbours[starts[i]:starts[i + 1]]``.
        neighbours: Shape ``(2 m,)``.
    """

    pairs: IntArray
    starts: IntArray
    neighbours: IntArray

    @staticmethod
    def of(pairs: npt.ArrayLike | None, size: int) -> Conflicts:
        """Build the graph; a pair of an item with itself and repeated pairs are ignored."""
        listed = np.asarray([] if pairs is None else pairs, dtype=np.int64).reshape(-1, 2)
        listed = np.sort(listed[listed[:, 0] != listed[:, 1]], axis=1)
        listed = np.unique(listed, axis=0)
        both = np.concatenate([listed, listed[:, ::-1]])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        starts = np.zeros(size + 1, dtype=np.int64)
        np.cumsum(np.bincount(both[:, 0], minlength=size), out=starts[1:])
        return Conflicts(listed, starts, both[:, 1].copy())

    @property
    def degrees(self) -> IntArray:
        """How many neighbours each item has."""
        return np.diff(self.starts)

    def around(self, item: int) -> IntArray:
        """Return the neighbours of one item."""
        return self.neighbours[self.starts[item] : self.starts[item + 1]]

    def among(self, items: IntArray) -> Conflicts:
        """Return the graph induced by ``items`` (ascending), renumbered by position."""
        position = np.full(len(self.starts) - 1, -1, dtype=np.int64)
        position[items] = np.arange(len(items))
        pairs = position[self.pairs]
        return Conflicts.of(pairs[(pairs >= 0).all(axis=1)], len(items))

    def cliques(self) -> list[list[int]]:
        """Cover every pair by cliques, grown greedily from the first pair not yet covered.

        "At most one of a clique" implies "at most one of each pair" and is the stronger linear
        constraint: a triangle of pairs admits (1/2, 1/2, 1/2), its clique does not.
        """
        adjacent: dict[int, set[int]] = {}
        for a, b in self.pairs.tolist():
            adjacent.setdefault(a, set()).add(b)
            adjacent.setdefault(b, set()).add(a)
        covered: set[tuple[int, int]] = set()
        cliques = []
        for a, b in self.pairs.tolist():
            if (a, b) in covered:
                continue
            clique = [a, b]
            common = adjacent[a] & adjacent[b]
            while common:
                new = min(common)
                clique.append(new)
                common &= adjacent[new]
            clique.sort()
            covered.update((p, q) for k, p in enumerate(clique) for q in clique[k + 1 :])
            cliques.append(clique)
        return cliques
