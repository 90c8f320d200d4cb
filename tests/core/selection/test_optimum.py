"""Selection against brute force over all subsets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from character_curator.selection import Bounds, pricing, solve
from character_curator.selection.conflicts import Conflicts
from character_curator.selection.reduction import classes, needed_rows
from tests.support.exhaustive import Exhaustive, instances


def check(instance, **options):
    values, groups, pairs, total = instance
    found = solve(values, groups, pairs, total, **options)
    size, deviations, value = Exhaustive(len(values), pairs).best(values, groups, total)
    assert len(found.rows) == size
    assert found.deviations == deviations
    spread = max(1.0, float(np.abs(values).max()))
    assert found.objective == pytest.approx(value, abs=1e-9 * spread)
    # The rows themselves, not only what is said about them.
    assert found.objective == math.fsum(values[found.rows])
    chosen = set(found.rows.tolist())
    assert len(chosen) == size
    assert not any(a != b and a in chosen and b in chosen for a, b in pairs)
    for group, missed in zip(groups, deviations, strict=True):
        got = np.bincount(
            [c for c in group.codes[found.rows] if c >= 0], minlength=len(group.minimum)
        )
        beside = np.maximum(group.minimum - got, 0) + np.maximum(got - group.maximum, 0)
        assert beside.sum() == missed
    assert found.optimal
    assert found.gap == 0.0
    assert found.bound == found.objective


THOROUGH = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(instances())
@settings(THOROUGH, max_examples=1400)
def test_equals_brute_force(instance):
    check(instance)


@pytest.mark.parametrize("spread", [5e-324, 1e-310, 1e-300])
def test_values_may_be_as_close_as_numbers_can_be(spread):
    check((np.array([0.0, spread]), [], [], 1))
    check((np.array([spread, 0.0, spread, 0.0]), [], [(0, 2)], 2))


def test_a_program_that_highs_gives_up_on_is_solved():
    # scipy 1.17's HiGHS ends with "Solve error" where the shortfalls are continuous.
    groups = [
        Bounds(
            np.array([1, 0, 0, -1, 0, -1, 1, 1, 0, 0]), np.array([1, 2, 0]), np.array([1, 2, 0])
        ),
        Bounds(np.array([-1, 0, -1, 0, 0, 0, 0, -1, -1, -1]), np.array([1]), np.array([2])),
        Bounds(np.array([0, 0, 0, 0, -1, 0, -1, 0, 0, 0]), np.array([3]), np.array([3])),
    ]
    check((np.zeros(10), groups, [(0, 1), (1, 7)], 2))


@given(instances())
@settings(THOROUGH, max_examples=300)
def test_equals_brute_force_through_prices(instance):
    check(instance, price_above=0)


@given(instances(least=5))
@settings(THOROUGH, max_examples=300)
def test_equals_brute_force_when_prices_see_few_rows_first(instance):
    # The first program then sees three rows: the others must be admitted, or be proven useless.
    whole, pricing._CORE = pricing._CORE, 3
    try:
        check(instance, price_above=0)
    finally:
        pricing._CORE = whole


def test_prices_admit_what_the_first_program_lacks(monkeypatch):
    # The best selection needs the sixth of the cheapest rows, and gains a millionth by it.
    monkeypatch.setattr(pricing, "_CORE", 5)
    values = np.array([0.0, 0.999989, 0.999982, 0.999981, 0.999986, 0.999988, 0.999983])
    group = Bounds(np.array([2, 1, 0, -1, 1, 2, -1]), np.array([0, 1, 1]), np.array([1, 1, 1]))
    pairs = [(1, 3), (4, 0), (1, 4), (2, 6), (6, 4), (3, 4)]
    check((values, [group], pairs, 4), price_above=0)


@given(instances(least=6, most=12), st.integers(1, 3))
@settings(THOROUGH, max_examples=300)
def test_reduction_keeps_an_optimum(instance, total):
    """With small totals and few classes, rows are dropped, and never one that is needed."""
    values, groups, pairs, _ = instance
    groups = groups[:1]
    conflicts = Conflicts.of(pairs, len(values))
    class_of = classes([group.codes for group in groups], len(values))
    limits = np.full(class_of.max() + 1, total)
    for group in groups:
        for label in np.unique(class_of):
            code = group.codes[class_of == label][0]
            if code >= 0:
                limits[label] = min(total, group.maximum[code])
    kept = needed_rows(values, class_of, limits, conflicts, total)

    def optimum(rows):
        best = None
        for subset in Exhaustive(len(values), pairs).subsets:
            if subset.sum() != total or subset[np.setdiff1d(np.arange(len(values)), rows)].any():
                continue
            counts = [
                subset[group.codes == value].sum()
                for group in groups
                for value in range(len(group.minimum))
            ]
            low = [m for group in groups for m in group.minimum]
            high = [m for group in groups for m in group.maximum]
            if all(a <= c <= b for a, c, b in zip(low, counts, high, strict=True)):
                worth = math.fsum(values[subset.astype(bool)])
                best = worth if best is None else max(best, worth)
        return best

    everything, reduced = optimum(np.arange(len(values))), optimum(kept)
    assert (everything is None) == (reduced is None)
    if everything is not None:
        assert reduced == pytest.approx(everything, abs=1e-9)


def test_reduction_drops_rows():
    values = np.linspace(1, 0, 1000)
    one = np.zeros(1000, dtype=np.int64)
    assert needed_rows(values, one, np.array([7]), Conflicts.of(None, 1000), 70).tolist() == list(
        range(7)
    )
    # Ten best rows in five pairs: the five best of pairs are as good as free rows.
    pairs = [(i, i + 1) for i in range(0, 10, 2)]
    kept = needed_rows(values, one, np.array([7]), Conflicts.of(pairs, 1000), 70)
    assert kept.tolist() == list(range(12))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
@settings(THOROUGH, max_examples=100)
def test_cliques_cover_every_pair_and_nothing_else(pairs):
    wanted = {(min(p), max(p)) for p in pairs if p[0] != p[1]}
    covered = {
        (a, b)
        for clique in Conflicts.of(pairs, 10).cliques()
        for k, a in enumerate(clique)
        for b in clique[k + 1 :]
    }
    assert covered == wanted


@pytest.mark.parametrize("seed", range(3))
def test_prices_change_nothing_on_thousands_of_rows(seed):
    random = np.random.default_rng(seed)
    n = 6000
    values = random.beta(6, 3, n)
    groups = [
        Bounds(random.integers(0, 10, n), np.full(10, 7), np.full(10, 7)),
        Bounds(random.integers(0, 8, n), np.full(8, 8), np.full(8, 10)),
        Bounds(random.integers(0, 2, n), np.array([18, 52]), np.array([18, 52])),
        Bounds(random.integers(0, 30, n), np.zeros(30, int), np.full(30, 3)),
    ]
    pairs = random.integers(0, n, (n // 10, 2))
    plain = solve(values, groups, pairs, 70, price_above=n)
    priced = solve(values, groups, pairs, 70, price_above=100)
    assert priced.considered < plain.considered
    assert priced.objective == pytest.approx(plain.objective, abs=1e-9)
    assert priced.gap == plain.gap == 0
