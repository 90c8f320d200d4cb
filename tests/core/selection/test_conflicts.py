"""The graph of conflicts: the same whichever way it is told, and its cover by cliques."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from character_curator.selection.conflicts import Conflicts

SIZE = 9
GRAPHS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=60)


def edges(pairs):
    return {tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}


@given(GRAPHS)
def test_it_is_what_was_told(pairs):
    graph = Conflicts.of(pairs, SIZE)
    expected = edges(pairs)
    assert [tuple(pair) for pair in graph.pairs] == sorted(expected)
    for item in range(SIZE):
        near = sorted({a + b - item for a, b in expected if item in (a, b)})
        assert graph.around(item).tolist() == near
        assert graph.degrees[item] == len(near)


@given(GRAPHS)
def test_cliques_cover_every_pair_and_no_other(pairs):
    cliques = Conflicts.of(pairs, SIZE).cliques()
    covered = [set(itertools.combinations(clique, 2)) for clique in cliques]
    assert set().union(*covered) == edges(pairs)
    for clique, inside in zip(cliques, covered, strict=True):
        assert clique == sorted(clique)
        bigger = [item for item in range(SIZE) if item not in clique
                  and all(tuple(sorted((item, member))) in edges(pairs) for member in clique)]  # fmt: skip
        assert not bigger, "each is as large as it can be"
        assert inside <= edges(pairs)


def test_one_clique_of_thousands_is_one():
    first, second = np.triu_indices(2000, 1)
    assert Conflicts.of(np.stack([first, second], axis=1), 2000).cliques() == [list(range(2000))]
