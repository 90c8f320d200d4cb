"""What forcing an image in would cost, against brute force over all subsets."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from character_curator.imageset import ImageSet
from character_curator.selection import Decisions, Quota, forcing, select, solve
from character_curator.selection.forcing import prices
from character_curator.selection.resolve import ResolvedQuota
from character_curator.selection.result import Problem
from tests.support.exhaustive import Exhaustive, instances
from tests.support.portfolio import RECIPE, portfolio

THOROUGH = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
ANY = select(ImageSet.from_rows([{"path": "a.png", "quality": 1.0}], Path(".")), 1)


def posed(instance, keep=()):
    """A selection of an instance, and its rows."""
    values, groups, pairs, total = instance
    keep = np.asarray(keep, dtype=np.int64)
    solution = solve(values, groups, pairs, total, keep=keep)
    resolved = tuple(
        ResolvedQuota(Quota(f"q{k}", minimum=0), tuple(range(len(group.minimum))), group)
        for k, group in enumerate(groups)
    )
    listed = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    rows = np.arange(len(values))
    problem = Problem(rows, np.asarray(values, float), resolved, listed, keep, solution)
    return replace(ANY, problem=problem, optimal=True), solution


def check(instance, keep=(), **limits):
    values, groups, pairs, _ = instance
    selection, base = posed(instance, keep)
    found = prices(selection, **limits)
    chosen = set(base.rows.tolist())
    assert set(found) == set(range(len(values))) - chosen
    every = Exhaustive(len(values), pairs)
    every.subsets = every.subsets[every.subsets[:, list(keep)].all(axis=1)]
    whole = every.subsets
    spread = max(1.0, float(np.abs(values).max()))
    for row, price in found.items():
        every.subsets = whole[whole[:, row] == 1]
        possible = every.subsets[every.subsets.sum(axis=1) <= len(base.rows)]
        if price.cost is None:
            assert not len(possible)
            continue
        size, deviations, value = every.best(values, groups, len(base.rows))
        more = [
            (f"q{k}", a - b)
            for k, (a, b) in enumerate(zip(deviations, base.deviations, strict=True))
            if a > b
        ]
        if size < len(base.rows):
            more.insert(0, ("total", len(base.rows) - size))
        if not price.exact:
            assert not price.leaves
            assert more or not math.isinf(price.cost)
            if not more:
                assert price.cost <= base.objective - value + 1e-6 * spread
            continue
        assert list(price.missed) == more
        assert price.cost == pytest.approx(base.objective - value, abs=1e-6 * spread)
        # What is said to leave and to enter makes a selection of that value.
        new = (chosen - set(price.leaves)) | set(price.enters) | {row}
        assert len(new) == size
        assert not any(a != b and a in new and b in new for a, b in pairs)
        assert math.fsum(values[sorted(new)]) == pytest.approx(value, abs=1e-6 * spread)
    return found


@given(instances(least=3))
@THOROUGH
def test_prices_equal_brute_force(instance):
    assert all(price.exact for price in check(instance).values())


@given(instances(least=3))
@THOROUGH
def test_prices_equal_brute_force_when_the_first_program_sees_little(instance):
    whole, forcing._FIRST = forcing._FIRST, 0
    try:
        check(instance)
    finally:
        forcing._FIRST = whole


@given(instances(least=3), st.integers(0, 1), st.integers(0, 1))
@THOROUGH
def test_what_is_not_solved_is_a_bound(instance, programs, relaxed):
    check(instance, programs=programs, relaxed=relaxed)


@given(instances(least=3), st.data())
@THOROUGH
def test_prices_beside_kept_rows(instance, data):
    keep = sorted(data.draw(st.sets(st.integers(0, len(instance[0]) - 1), min_size=1, max_size=2)))
    assume(len(keep) <= instance[3])
    assume(not any(a != b and a in keep and b in keep for a, b in instance[2]))
    check(instance, keep)


def test_what_enters_with_an_image_need_not_be_seen_first(monkeypatch):
    # Row 0 excludes 2 and 3. With 2, the best is not one more of the selected, but 3.
    monkeypatch.setattr(forcing, "_FIRST", 0)
    found = check((np.array([1.0, 0.5, 0.6, 0.7]), [], [(0, 2), (0, 3)], 2))
    assert (found[2].leaves, found[2].enters) == ((0, 1), (3,))
    assert (found[3].leaves, found[3].enters) == ((0, 1), (2,))


def test_one_program_serves_images_that_count_alike(monkeypatch):
    solved = []
    inner = forcing._Inner._with
    monkeypatch.setattr(
        forcing._Inner, "_with", lambda self, *rest: solved.append(1) or inner(self, *rest)
    )
    images = portfolio(400)
    selection = select(images, 70, RECIPE)
    found = prices(selection)
    left = selection.images.table.filter(rejection="quota").height
    assert len(found) == left
    assert all(price.exact and price.cost >= 0 for price in found.values())
    assert 0 < len(solved) < left / 2
    row, price = max(found.items(), key=lambda item: (len(item[1].leaves) < 3, item[1].cost))
    kept = Decisions(frozenset({selection.images.table["hash"][row]}))
    forced = select(images, 70, RECIPE, decisions=kept)
    assert forced.objective == pytest.approx(selection.objective - price.cost, abs=1e-9)
    gone = set(selection.selected.table["path"]) - set(forced.selected.table["path"])
    assert gone == {selection.images.table["path"][r] for r in price.leaves}


def test_too_many_candidates_or_no_proof_have_no_prices(monkeypatch):
    selection = select(portfolio(30), 5)
    assert prices(selection)
    assert prices(replace(selection, optimal=False)) == {}
    assert prices(replace(selection, problem=None)) == {}
    monkeypatch.setattr(forcing, "MAX_CANDIDATES", 20)
    assert prices(selection) == {}
