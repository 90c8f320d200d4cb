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
def test_each_clique_is_as_large_as_it_can_be(pairs):
    joined = edges(pairs)
    for clique in Conflicts.of(pairs, SIZE).cliques():
        assert clique == sorted(clique)
        assert set(itertools.combinations(clique, 2)) <= joined
        for item in set(range(SIZE)) - set(clique):
            assert not {tuple(sorted((item, member))) for member in clique} <= joined


def test_one_clique_of_hundreds_is_one():
    first, second = np.triu_indices(400, 1)
    assert Conflicts.of(np.stack([first, second], axis=1), 400).cliques() == [list(range(400))]
