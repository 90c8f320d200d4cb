"""What is still proven when a selection sees only the best rows of each shard (docs/scale.md)."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from character_curator.selection import Bounds, solve
from character_curator.selection.reduction import classes
from tests.support.exhaustive import Exhaustive, instances

THOROUGH = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)


def bracket(values, groups, pairs, total, shard_of, kept_of_a_class):
    """Return the solutions over what the shards kept, and over that with stand-ins for the rest.

    A shard knows nothing of pairs. Of each class it keeps the best rows and tells of the others
    the best value and how many they are. The stand-ins are as many rows of that value, free of
    conflicts: whatever a selection takes of the rest, they are at least as good.
    """
    class_of = classes([group.codes for group in groups], len(values))
    kept, stand_ins = [], []
    for shard in range(max(shard_of) + 1):
        for label in range(int(class_of.max()) + 1):
            rows = np.flatnonzero((shard_of == shard) & (class_of == label))
            rows = rows[np.argsort(-values[rows], kind="stable")]
            kept += rows[:kept_of_a_class].tolist()
            rest = rows[kept_of_a_class:]
            stand_ins += rest[:1].tolist() * min(len(rest), total)
    kept = np.sort(np.asarray(kept, dtype=np.int64))
    near = [pair for pair in pairs if set(pair) <= set(kept.tolist())]
    near = np.searchsorted(kept, np.asarray(near, dtype=np.int64).reshape(-1, 2))
    more = np.concatenate([kept, np.asarray(stand_ins, dtype=np.int64)])
    return (
        solve(values[kept], [group.of(kept) for group in groups], near, total),
        solve(values[more], [group.of(more) for group in groups], near, total),
    )


def shards(values, seed, count):
    return np.random.default_rng(seed).integers(0, count, len(values))


@given(instances(), st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))
@THOROUGH
def test_the_optimum_lies_between_what_was_kept_and_its_stand_ins(instance, seed, count, few):
    values, groups, pairs, total = instance
    least, most = bracket(values, groups, pairs, total, shards(values, seed, count), few)
    size, missed, value = Exhaustive(len(values), pairs).best(values, groups, total)
    assert len(least.rows) <= size <= len(most.rows)
    if len(least.rows) == len(most.rows):
        assert most.deviations <= missed <= least.deviations
    if (len(least.rows), least.deviations) == (len(most.rows), most.deviations):
        rounding = 1e-9 * max(1.0, float(np.abs(values).max()))
        assert least.objective - rounding <= value <= most.objective + rounding


@given(instances(), st.integers(0, 9), st.integers(1, 3))
@THOROUGH
def test_without_pairs_nothing_is_lost(instance, seed, count):
    values, groups, _, total = instance
    least, _ = bracket(values, groups, [], total, shards(values, seed, count), total)
    size, missed, value = Exhaustive(len(values), []).best(values, groups, total)
    rounding = 1e-9 * max(1.0, float(np.abs(values).max()))
    assert (len(least.rows), least.deviations) == (size, missed)
    assert abs(least.objective - value) <= rounding


def test_a_pair_across_shards_may_cost_and_the_bound_says_how_much():
    # The two best are one image twice, in two shards that keep one row each.
    values = np.array([0.9, 0.5, 0.9, 0.6])
    group = Bounds(np.zeros(4, dtype=np.int64), np.array([2]), np.array([2]))
    shard_of = np.array([0, 0, 1, 1])
    least, most = bracket(values, [group], [(0, 2)], 2, shard_of, 1)
    assert len(least.rows) == 1
    least, most = bracket(values, [group], [(0, 2)], 2, shard_of, 2)
    assert least.objective == most.objective == 1.5
