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
        listed = listed[listed[:, 0] != listed[:, 1]]
        keys = np.unique(listed.min(axis=1) * size + listed.max(axis=1))
        listed = np.stack(np.divmod(keys, size), axis=1)
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
        covered = np.zeros(len(self.pairs), dtype=bool)
        first = np.searchsorted(self.pairs[:, 0], np.arange(len(self.starts)))
        cliques = []
        for index, (a, b) in enumerate(self.pairs):
            if covered[index]:
                continue
            clique = [int(a), int(b)]
            common = _shared(self.around(a), self.around(b))
            while len(common):
                clique.append(int(common[0]))
                common = _shared(common, self.around(clique[-1]))
            clique.sort()
            members = np.array(clique)
            for place, item in enumerate(clique[:-1]):
                start, stop = first[item], first[item + 1]
                inside = np.searchsorted(self.pairs[start:stop, 1], members[place + 1 :])
                covered[start + inside] = True
            cliques.append(clique)
        return cliques


def _shared(one: IntArray, other: IntArray) -> IntArray:
    """Return what two ascending arrays have in common, ascending."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    place = np.searchsorted(many, few)
    return few[many[np.minimum(place, len(many) - 1)] == few] if len(many) else few
