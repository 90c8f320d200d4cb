"""Quotas as people write them, and what they mean in whole images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.selection import ContradictoryQuotaError, Quota, QuotaSyntaxError, select
from character_curator.selection.quotas import amount_for
from tests.support.portfolio import portfolio


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


def test_shares_become_whole_images():
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


def test_amounts_are_found_by_text():
    assert amount_for({966983: 7}, "966983") == 7
    assert amount_for({"966983": 7}, 966983) == 7
    assert amount_for(7, "anything") == 7
    assert amount_for({"a": 1}, "b") is None


def test_shares_are_not_moved_by_rounding():
    # In floating point 0.07 * 100 is a little above 7, and 0.29 * 100 a little below 29.
    quota = Quota("kind", minimum={"original": 0.07}, maximum={"original": 0.29}, shares=True)
    found = select(portfolio(600), 100, [quota])
    (row,) = found.counts().filter(column="kind", value="original").to_dicts()
    assert (row["minimum"], row["maximum"]) == (7, 29)


def test_what_is_no_number_counts_for_no_value():
    images = portfolio(
        6,
        rejection=lambda i, row: None,
        zoom=lambda i, row: 1.0 if i < 3 else float("nan"),
    )
    found = select(images, 4, [Quota("zoom", exact=2)])
    assert found.met
    assert found.counts()["value"].to_list() == ["1.0"]
