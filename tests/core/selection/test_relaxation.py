"""Quotas that cannot all be met: which gives way, why, and what to do about it."""

from __future__ import annotations

import json

import polars as pl
import pytest

from character_curator.rejection_reasons import Rejection
from character_curator.selection import Quota, select
from tests.support.portfolio import RECIPE, portfolio


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
    # All originals have seed 1: two of seed 2 and three originals of four images cannot be.
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


def advice(found):
    """The one sentence of advice; said to people, and to machines with every number missed."""
    (sentence,) = {relaxation.advice for relaxation in found.relaxations}
    assert found.sentences().count(sentence) == 1
    said = json.loads(json.dumps(found.proof()))["relaxations"]
    assert [entry["advice"] for entry in said] == [sentence] * len(found.relaxations)
    assert [entry["available"] for entry in said] == [r.available for r in found.relaxations]
    return sentence


def test_advice_names_the_threshold_that_would_let_in_enough():
    images = portfolio(60, rejection=lambda i, row: None, seed=lambda i, row: i % 3)
    below = (images.table["quality"] < 0.7).to_numpy()
    images = images.reject(below, Rejection.LOW_QUALITY, "too low")
    scores = images.table.filter(pl.col("seed") == 1)["quality"].sort(descending=True)
    have = int((scores >= 0.7).sum())
    found = select(images, 20, [Quota("seed", minimum={1: have + 2})])
    sentence = advice(found)
    assert f"make more takes of seed 1 ({have} available, {have + 2} wanted)" in sentence
    level = float(sentence.split("minimum quality to ")[1].split(",")[0])
    assert scores[have + 1] - 0.01 < level <= scores[have + 1]
    assert sum(scores >= level) >= have + 2


def test_advice_counts_what_a_threshold_left_out_where_its_values_are_unknown():
    images = portfolio(60, cluster=lambda i, row: None if row["rejection"] else i % 2)
    images = images.with_columns(pl.col("rejection").replace("no_face", "low_confidence"))
    (count,) = images.rejections().values()
    sentence = advice(select(images, 40, [Quota("cluster", minimum={0: 31})]))
    assert f"lower the minimum face confidence, which left out {count}," in sentence


def test_advice_lets_nobody_in_who_is_not_the_references_person():
    images = portfolio(60, rejection=lambda i, row: None)
    scores = pl.Series("identity_similarity", [row / 59 for row in range(60)])
    images = images.with_columns(scores, pl.lit("references").alias("identity_reference"))
    images = images.reject(scores < 0.8, Rejection.IDENTITY_MISMATCH, "another")
    real = images.with_columns(pl.lit("real").alias("kind"))
    assert "lower" not in advice(select(real, 20))
    made = images.with_columns(pl.lit("scenario").alias("kind"))
    assert "lower the minimum identity similarity to 0.6" in advice(select(made, 20))


@pytest.mark.parametrize(
    ("quota", "pairs", "words"),
    [
        (Quota("kind", exact={"orignal": 1}), [], "check the spelling of orignal (there are or"),
        (Quota("kind", minimum={"original": 2}), [(0, 1), (1, 2), (0, 2)],
         "kind original (1 available, 2 wanted) that differ more, raise the duplicate threshold"),
        (Quota("seed", minimum=2), [], "its minimums, which sum to 6, to 4 in all, or raise the t"),
        (Quota("seed", maximum=1), [], "raise its maximums, add images of other values, or low"),
        (Quota("cluster", exact={"7": 3}), [], "scenarios that show cluster 7 'dim' (2 available"),
        (Quota("pose", minimum={"profile": 2}), [], "scenarios that show pose profile (1 avail"),
    ],
)  # fmt: skip
def test_advice_fits_the_cause(quota, pairs, words):
    images = portfolio(
        9,
        rejection=lambda i, row: None,
        kind=lambda i, row: "original" if i < 3 else "scenario",
        seed=lambda i, row: i % 3,
        cluster=lambda i, row: 7 if i > 6 else 0,
        cluster_name=lambda i, row: "dim" if i > 6 else "bright",
        pose=lambda i, row: "profile" if i == 4 else "frontal",
    )
    assert words in advice(select(images, 4, [quota], conflicts=pairs))


def test_advice_for_quotas_in_each_others_way_and_for_the_total():
    images = portfolio(
        20,
        rejection=lambda i, row: None,
        seed=lambda i, row: 1 if i < 10 else 2,
        kind=lambda i, row: "original" if i < 10 else "scenario",
    )
    found = select(images, 4, [Quota("seed", exact=2), Quota("kind", minimum={"original": 3})])
    assert advice(found) == (
        "To meet the quota on kind, state it before seed, loosen seed, or change what is wanted of "
        "original (10 available, at least 3 wanted, 2 selected)."
    )
    photos = images.with_columns(pl.lit(None, pl.Int64).alias("seed"))
    assert advice(select(photos, 21)) == (
        "To reach the total of 21 (20 available), add images, or ask for 20."
    )
    assert "that differ more, raise the duplicate threshold, or ask for 19." in advice(
        select(images, 20, conflicts=[(0, 1)])
    )


def test_advice_on_many_values_stays_short():
    images = portfolio(90, rejection=lambda i, row: None, seed=lambda i, row: i % 30)
    sentence = advice(select(images, 90, [Quota("seed", minimum=4)]))
    assert "3 (3 available, 4 wanted) and 26 others" in sentence
