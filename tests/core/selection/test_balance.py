"""Selection on image sets: balance, reasons, order, errors, proof."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character_curator.imageset import ImageSet
from character_curator.rejection_reasons import Rejection
from character_curator.selection import (
    ContradictoryQuotaError,
    NoCandidatesError,
    NonFiniteValueError,
    Quota,
    QuotaSyntaxError,
    UncountableColumnError,
    UnknownColumnError,
    UnknownPairError,
    select,
)
from character_curator.selection.balance import PairsError, TotalError
from tests.support.portfolio import RECIPE, portfolio


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


def test_every_image_that_is_not_selected_says_why():
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


def test_the_most_similar_selected_image_is_named():
    images = portfolio(3, quality=lambda i, row: 1 - i / 10, rejection=lambda i, row: None)
    found = select(images, 2, conflicts=[(2, 0), (2, 1), (0, 2)], similarities=[0.91, 0.95, 0.91])
    assert found.images.table["rejection_detail"][2] == "near-duplicate of char_00001.png (0.95)"


@given(st.permutations(range(60)))
@settings(max_examples=15)
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


def test_of_equal_images_the_first_paths_are_taken():
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
    nothing = images.reject(np.ones(20, dtype=bool), Rejection.LOW_QUALITY, "too low")
    with pytest.raises(NoCandidatesError, match="19 low_quality"):
        select(nothing, 3)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_values_must_be_finite(bad):
    images = portfolio(20, quality=lambda i, row: bad if i in (3, 5, 7) else 0.5)
    with pytest.raises(NonFiniteValueError, match=r"2 accepted images, .* char_00005\.png"):
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


def test_of_equally_similar_images_the_first_path_is_named():
    images = portfolio(3, quality=lambda i, row: 1 - i / 10, rejection=lambda i, row: None)
    found = select(images, 2, conflicts=[(2, 1), (2, 0)], similarities=[0.95, 0.95])
    assert found.images.table["rejection_detail"][2] == "near-duplicate of char_00000.png (0.95)"


def test_an_image_as_good_as_the_last_one_taken_is_told_so():
    images = portfolio(3, quality=lambda i, row: 0.8, rejection=lambda i, row: None)
    reason = select(images, 2).images.table["rejection_detail"][2]
    assert reason == "the 2 places went to images as good or better"


@pytest.mark.parametrize("total", [0, -1, 1.5, float("nan"), "3", None])
def test_a_total_that_is_none(total):
    with pytest.raises(TotalError, match="at least 1 image"):
        select(ImageSet.from_rows([{"path": "a.png", "quality": 1.0}], "."), total)


def test_quotas_may_be_texts():
    rows = [{"path": f"{n}.png", "seed": n % 2, "quality": n / 9} for n in range(6)]
    images = ImageSet.from_rows(rows, ".")
    expected = select(images, 4, [Quota.parse("seed=2")])
    for quotas in (["seed=2"], "seed=2"):
        assert select(images, 4, quotas).images.table.equals(expected.images.table)
    for wrong in ("=", 5, None):
        with pytest.raises(QuotaSyntaxError):
            select(images, 4, [wrong])


@pytest.mark.parametrize("conflicts", ["x", [1, 2, 3], [[None, 1]]])
def test_conflicts_that_are_no_pairs(conflicts):
    with pytest.raises(PairsError, match="no pairs of row numbers"):
        select(ImageSet.from_rows([{"path": "a.png", "quality": 1.0}], "."), 1, conflicts=conflicts)
