"""Selection against brute force over all subsets, and what it says about itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from character_curator.imageset import ImageSet
from character_curator.selection import (
    Bounds,
    ContradictoryQuotaError,
    NoCandidatesError,
    NonFiniteValueError,
    Quota,
    QuotaSyntaxError,
    UncountableColumnError,
    UnknownColumnError,
    UnknownPairError,
    pricing,
    select,
    solve,
)
from character_curator.selection.conflicts import Conflicts
from character_curator.selection.quotas import amount_for
from character_curator.selection.reduction import classes, needed_rows


# --- An independent reference: try every subset --------------------------------------------------
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


thorough = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(instances())
@settings(thorough, max_examples=1400)
def test_equals_brute_force(instance):
    check(instance)


@given(instances())
@settings(thorough, max_examples=300)
def test_equals_brute_force_through_prices(instance):
    check(instance, price_above=0)


@given(instances(least=5))
@settings(thorough, max_examples=300)
def test_equals_brute_force_when_prices_see_few_rows_first(instance):
    # The first program then sees three rows: the others must be admitted, or be proven useless.
    whole, pricing._CORE = pricing._CORE, 3
    try:
        check(instance, price_above=0)
    finally:
        pricing._CORE = whole


@given(instances(least=6, most=12), st.integers(1, 3))
@settings(thorough, max_examples=300)
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
@settings(thorough, max_examples=100)
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


# --- On image sets -------------------------------------------------------------------------------
def portfolio(n=400, **columns) -> ImageSet:
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


def test_the_published_portfolio_is_balanced():
    images = portfolio()
    pairs = np.array([(i, i + 1) for i in range(0, 400, 10)])
    found = select(images, 70, RECIPE, conflicts=pairs, similarities=np.full(len(pairs), 0.987))
    chosen = found.selected.table
    assert chosen.height == len(found) == 70
    assert found.met
    assert set(chosen.group_by("seed").len()["len"]) == {7}
    assert dict(chosen.group_by("kind").len().iter_rows()) == {"original": 18, "scenario": 52}
    assert chosen.group_by("cluster").len()["len"].is_between(8, 10).all()
    assert chosen.sort("selection_rank")["selection_rank"].to_list() == list(range(1, 71))
    assert chosen.sort("selection_rank")["quality"].is_sorted(descending=True)
    numbers = set(chosen["path"].str.extract(r"(\d+)").cast(int))
    assert not any(a in numbers and b in numbers for a, b in pairs.tolist())
    assert found.objective == math.fsum(chosen["quality"])
    assert (found.bound, found.gap, found.optimal) == (found.objective, 0.0, True)
    assert "rejection" in images.table.columns
    assert "selected" not in images.table.columns, "the given set must not change"


def test_every_picture_that_is_not_selected_says_why():
    images = portfolio()
    pairs = np.array([(i, i + 1) for i in range(0, 400, 10)])
    found = select(images, 70, RECIPE, conflicts=pairs, similarities=np.full(len(pairs), 0.987))
    table = found.images.table
    assert (table["selected"] == table["rejection"].is_null()).all()
    before = images.table.filter(pl.col("rejection").is_not_null())
    after = table.filter(pl.col("path").is_in(before["path"].to_list()))
    assert after["rejection"].to_list() == before["rejection"].to_list()
    assert after["rejection_detail"].to_list() == before["rejection_detail"].to_list()

    chosen = set(found.selected.table["path"])
    partner = {a: b for pair in pairs.tolist() for a, b in (pair, pair[::-1])}
    duplicates = 0
    for row in table.filter(~pl.col("selected")).iter_rows(named=True):
        number = int(row["path"][5:10])
        other = f"char_{partner[number]:05}.png" if number in partner else None
        if row["rejection"] == "no_face":
            continue
        if other in chosen:
            duplicates += 1
            assert row["rejection"] == "duplicate"
            assert row["rejection_detail"] == f"near-duplicate of {other} (0.99)"
        else:
            assert row["rejection"] == "quota"
            if row["rejection_detail"] == f"seed {row['seed']} already has 7 as good or better":
                same = found.selected.table.filter(seed=row["seed"])
                assert same["quality"].min() >= row["quality"]
            else:
                assert "already has" in row["rejection_detail"]
    assert duplicates == found.duplicates > 0


def test_the_most_similar_selected_picture_is_named():
    images = portfolio(3, quality=lambda i, row: 1 - i / 10, rejection=lambda i, row: None)
    found = select(images, 2, conflicts=[(2, 0), (2, 1), (0, 2)], similarities=[0.91, 0.95, 0.91])
    assert found.images.table["rejection_detail"][2] == "near-duplicate of char_00001.png (0.95)"


@given(st.permutations(range(60)))
@settings(thorough, max_examples=15)
def test_the_order_of_the_rows_does_not_matter(order):
    # Values on a coarse grid: many ties, which must fall the same way.
    images = portfolio(60, quality=lambda i, row: 0.74 + (i * 7 % 5) / 20)
    pairs = np.array([(i, (i * 7 + 3) % 60) for i in range(0, 60, 5)])
    quotas = (Quota("kind", minimum={"original": 4}), Quota("cluster", maximum=3))
    mixed = ImageSet(images.table[list(order)], images.root)
    position = np.argsort(order)
    one = select(images, 15, quotas, conflicts=pairs)
    two = select(mixed, 15, quotas, conflicts=position[pairs])
    again = select(images, 15, quotas, conflicts=pairs)
    assert one.images.table.equals(again.images.table)
    assert two.images.table.sort("path").equals(one.images.table.sort("path"))
    assert two.proof() == one.proof()


def test_of_equal_pictures_the_first_paths_are_taken():
    images = portfolio(
        40, quality=lambda i, row: 0.8, seed=lambda i, row: i % 2, rejection=lambda i, row: None
    )
    reverse = ImageSet(images.table.reverse(), images.root)
    found = select(reverse, 6, [Quota("seed", exact=3)])
    assert sorted(found.selected.table["path"]) == [f"char_{i:05}.png" for i in range(6)]


def test_any_numeric_column_can_be_maximised():
    images = portfolio(30, width=lambda i, row: 100 + i, rejection=lambda i, row: None)
    found = select(images, 3, value="width")
    assert found.selected.table["width"].to_list() == [127, 128, 129]
    assert found.objective == 127 + 128 + 129


# --- Relaxation ----------------------------------------------------------------------------------
def test_the_quota_listed_last_gives_way_and_says_why():
    images = portfolio(400, rejection=lambda i, row: None)
    few = images.table.filter(pl.col("cluster") == 3)["path"].to_list()[5:]
    images = images.filter(~pl.col("path").is_in(few))
    found = select(images, 70, RECIPE)
    assert len(found) == 70
    assert not found.met
    (relaxation,) = found.relaxations
    assert (relaxation.column, relaxation.value, relaxation.amount) == ("cluster", 3, 3)
    assert (relaxation.minimum, relaxation.selected) == (8, 5)
    assert relaxation.reason == "cluster 3 has only 5 candidates"
    assert (
        "cluster: 8 to 10 each of 8 values - relaxed by 3: 3 got 5 instead of at least 8 "
        "(cluster 3 has only 5 candidates)." in found.sentences()
    )
    counts = found.counts()
    assert counts.filter(column="cluster", value="3").row(0)[2:] == (8, 10, 5, 5, False)
    assert counts.filter(column="seed")["met"].all()


def test_order_of_the_quotas_decides_which_gives_way():
    # All originals have seed 1: two of seed 2 and three originals of four pictures cannot be.
    images = portfolio(
        20,
        rejection=lambda i, row: None,
        seed=lambda i, row: 1 if i < 10 else 2,
        kind=lambda i, row: "original" if i < 10 else "scenario",
    )
    seeds, kinds = Quota("seed", exact=2), Quota("kind", minimum={"original": 3})
    one, two = select(images, 4, [seeds, kinds]), select(images, 4, [kinds, seeds])
    assert {(r.column, r.amount) for r in one.relaxations} == {("kind", 1)}
    assert one.relaxations[0].reason == "the total of 4 and the quota on seed come first"
    assert {(r.column, r.value, r.amount) for r in two.relaxations} == {
        ("seed", 1, 1),
        ("seed", 2, 1),
    }


def test_fewer_are_selected_only_when_there_are_no_more():
    images = portfolio(5, rejection=lambda i, row: None)
    found = select(images, 8, conflicts=[(0, 1), (1, 2)])
    assert len(found) == 4
    assert str(found.relaxations[0]) == "got 4 instead of 8"
    assert "of 5 candidates only 4 are left" in found.relaxations[0].reason
    assert any(line.startswith("total: 8 - not reached: got 4") for line in found.sentences())
    assert select(images, 8).relaxations[0].reason == "there are only 5 candidates"


@pytest.mark.parametrize(
    ("quotas", "pairs", "reason"),
    [
        ([Quota("kind", exact={"orignal": 1})], [], "kind orignal has no candidates"),
        (
            [Quota("kind", minimum={"original": 2})],
            [(0, 1), (1, 2), (0, 2)],
            "kind original has 3 candidates, but only 1 when of each pair of near-duplicates one "
            "is taken",
        ),
        (
            [Quota("seed", minimum=2)],
            [],
            "the minimums of seed sum to 6, more than the total of 4",
        ),
        (
            [Quota("seed", maximum=1)],
            [],
            "within the maximums there are only 3 candidates for the total of 4",
        ),
        (
            [Quota("kind", maximum={"original": 0}), Quota("cluster", exact={"7": 3})],
            [],
            "cluster 7 has only 2 candidates",
        ),
    ],
)
def test_reasons_of_relaxations(quotas, pairs, reason):
    images = portfolio(
        9,
        rejection=lambda i, row: None,
        kind=lambda i, row: "original" if i < 3 else "scenario",
        seed=lambda i, row: i % 3,
        cluster=lambda i, row: 7 if i > 6 else 0,
    )
    found = select(images, 4, quotas, conflicts=pairs)
    assert reason in {relaxation.reason for relaxation in found.relaxations}


# --- Quotas as people write them -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "quota", "words"),
    [
        ("seed=7", Quota("seed", exact=7), "7 each"),
        ("cluster = 8..10", Quota("cluster", minimum=8, maximum=10), "8 to 10 each"),
        ("pose=2..", Quota("pose", minimum=2), "at least 2 each"),
        ("pose=..9", Quota("pose", maximum=9), "at most 9 each"),
        (
            "kind=original:18,scenario:52",
            Quota("kind", exact={"original": 18, "scenario": 52}),
            "original 18, scenario 52",
        ),
        (
            "kind=original:26%,scenario:74%",
            Quota("kind", exact={"original": 0.26, "scenario": 0.74}, shares=True),
            "original 26 %, scenario 74 %",
        ),
        (
            "pose=frontal:5..,profile:3",
            Quota("pose", minimum={"frontal": 5, "profile": 3}, maximum={"profile": 3}),
            "frontal at least 5, profile 3",
        ),
        ("cluster=10%..15%", Quota("cluster", minimum=0.1, maximum=0.15, shares=True),
         "10 % to 15 % each"),
    ],
)  # fmt: skip
def test_quotas_are_read_and_said(text, quota, words):
    assert Quota.parse(text) == quota
    assert str(quota) == words


@pytest.mark.parametrize(
    "text", ["seed", "=7", "seed=", "seed=a", "seed=7,8", "kind=a:1,2", "kind=a:1,a:2",
             "kind=a:1%,b:2", "kind=a:..", "seed=1.2.3"],
)  # fmt: skip
def test_what_is_no_quota_is_refused(text):
    with pytest.raises(QuotaSyntaxError, match="Write for example"):
        Quota.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"exact": 3, "minimum": 1}, "excludes"),
        ({"minimum": 5, "maximum": 3}, "minimum 5 exceeds the maximum 3"),
        ({"minimum": 5, "maximum": {"b": 3}}, "minimum 5 for b exceeds the maximum 3"),
        ({"exact": -1}, "not 0 or more"),
        ({"exact": 0.26}, "is it a share"),
        ({"exact": float("nan")}, "not 0 or more"),
        ({"exact": True}, "not a number"),
        ({"exact": {"a": 0.6, "b": 0.6}, "shares": True}, "sum to 1.2"),
        ({"maximum": 1.5, "shares": True}, "more than 1"),
    ],
)
def test_contradictory_quotas_are_refused(arguments, message):
    with pytest.raises(ContradictoryQuotaError, match=message):
        Quota("kind", **arguments)


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        (Quota("kind", exact={"original": 18, "scenario": 50}), "sum to 68, less than .* 70"),
        (Quota("kind", exact={"original": 18, "scenario": 53}), "sum to 71, more than .* 70"),
        (Quota("kind", maximum={"original": 9, "scenario": 9}), "sum to 18, less than"),
        (Quota("seed", minimum=0.101, maximum=0.104, shares=True), "no whole number"),
    ],
)
def test_quotas_that_cannot_add_up_are_refused(quota, message):
    with pytest.raises(ContradictoryQuotaError, match=message):
        select(portfolio(200), 70, [quota])


def test_shares_become_whole_pictures():
    images = portfolio(600, rejection=lambda i, row: None)
    found = select(
        images,
        70,
        [
            Quota("kind", exact={"original": 0.26, "scenario": 0.74}, shares=True),
            Quota("cluster", exact=0.125, shares=True),  # 8.75 each: six get 9, two get 8
            Quota("seed", minimum=0.05, maximum=0.15, shares=True),  # 3.5..10.5
        ],
    )
    assert found.met
    counts = found.counts()
    assert counts.filter(column="kind")["selected"].to_list() == [18, 52]
    assert sorted(counts.filter(column="cluster")["selected"]) == [8, 8, 9, 9, 9, 9, 9, 9]
    assert set(counts.filter(column="seed")["minimum"]) == {4}
    assert set(counts.filter(column="seed")["maximum"]) == {10}


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.integers(1, 100),
)
@settings(thorough, max_examples=60)
def test_exact_shares_of_everything_can_always_be_met(weights, total):
    from character_curator.selection.resolve import _apportion

    shares = [w / sum(weights) for w in weights]
    minimum, maximum = _apportion(shares, total)
    assert sum(minimum) <= total <= sum(maximum)
    for share, low, high in zip(shares, minimum, maximum, strict=True):
        assert share * total - 1 < low <= high < share * total + 1


def test_quotas_on_text_whole_numbers_and_truth_values_with_nulls():
    images = portfolio(
        40,
        rejection=lambda i, row: None,
        pose=lambda i, row: [None, "frontal", "profile"][i % 3],
        smiling=lambda i, row: i % 4 == 0,
    )
    found = select(
        images,
        9,
        [Quota("pose", exact=3), Quota("smiling", minimum={"true": 4, "True": 4}),
         Quota("seed", maximum={"966983": 0})],
    )  # fmt: skip
    assert found.met or {r.column for r in found.relaxations} <= {"smiling"}
    assert found.selected.table.group_by("pose").len().sort("pose")["len"].to_list()[-2:] == [3, 3]
    assert 966983 not in found.selected.table["seed"]


# --- Errors --------------------------------------------------------------------------------------
def test_errors_name_what_is_wrong():
    images = portfolio(20)
    with pytest.raises(UnknownColumnError, match=r"no column 'colour'.*quality"):
        select(images, 3, [Quota("colour", exact=1)])
    with pytest.raises(UnknownColumnError, match="no column 'beauty'"):
        select(images, 3, value="beauty")
    with pytest.raises(UncountableColumnError, match="must be a number"):
        select(images, 3, value="kind")
    with pytest.raises(ContradictoryQuotaError, match="more than one quota"):
        select(images, 3, [Quota("seed", exact=1), Quota("seed", maximum=2)])
    with pytest.raises(UnknownPairError, match=r"row 20.* 20 rows"):
        select(images, 3, conflicts=[(0, 20)])
    boxed = images.with_columns(pl.lit([1.0, 2.0]).alias("face_box"))
    with pytest.raises(UncountableColumnError, match="face_box"):
        select(boxed, 3, [Quota("face_box", exact=1)])
    nothing = images.reject(np.ones(20, dtype=bool), reason_of("low_quality"), "too low")
    with pytest.raises(NoCandidatesError, match="19 low_quality"):
        select(nothing, 3)


def reason_of(value):
    from character_curator.imageset import Rejection

    return Rejection(value)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_values_must_be_finite(bad):
    images = portfolio(20, quality=lambda i, row: bad if i in (3, 5, 7) else 0.5)
    with pytest.raises(NonFiniteValueError, match=r"2 accepted pictures, .* char_00005\.png"):
        select(images, 3)


def test_the_proof_is_json_and_the_sentences_are_whole():
    found = select(portfolio(), 70, RECIPE)
    proof = json.loads(json.dumps(found.proof()))
    assert proof["selected"] == 70
    assert proof["gap"] == 0
    assert len(proof["quotas"]) == 10 + 2 + 8
    lines = found.sentences()
    assert lines[0].startswith("Selected 70 of 380 candidates: quality ")
    assert "proven optimal (gap 0" in lines[0]
    assert "seed: 7 each of 10 values - met." in lines
    assert "kind: original 18, scenario 52 - met." in lines
    assert any(line.startswith("cluster: 8 to 10 each of 8 values - met (0: ") for line in lines)
    assert all(line.endswith(".") for line in lines)


def test_amounts_are_found_by_text():
    assert amount_for({966983: 7}, "966983") == 7
    assert amount_for({"966983": 7}, 966983) == 7
    assert amount_for(7, "anything") == 7
    assert amount_for({"a": 1}, "b") is None
