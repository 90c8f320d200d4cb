"""A selection without images that turned out to be damaged is the one that never had them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from character_curator.rejection_reasons import Rejection
from character_curator.selection import (
    Decisions,
    ImpossibleDecisionsError,
    Quota,
    select,
    select_again,
)
from character_curator.selection.again import NotKnownOfWhatError
from tests.support.portfolio import portfolio

QUOTAS = (Quota("seed", maximum=4), Quota("kind", exact={"original": 8, "scenario": 22}))


def chosen(selection):
    return set(selection.selected.table["path"])


@pytest.mark.parametrize("decided", [False, True])
def test_it_is_the_selection_that_never_had_them(decided):
    images = portfolio(200)
    pairs = np.random.default_rng(0).integers(0, 200, (40, 2))
    decisions = None
    if decided:
        decisions = Decisions(frozenset([f"{7:064x}"]), frozenset([f"{8:064x}", f"{9:064x}"]))
    first = select(images, 30, QUOTAS, conflicts=pairs, decisions=decisions)
    free = sorted(chosen(first) - {"char_00007.png"})
    damaged = dict.fromkeys(free[:3], "cut off")
    gone = images.table["path"].is_in(list(damaged)).to_numpy()
    details = [damaged.get(path, "") for path in images.table["path"]]
    without = images.reject(gone, Rejection.UNREADABLE, details)
    expected = select(without, 30, QUOTAS, conflicts=pairs, decisions=decisions)
    again = select_again(first, damaged)
    assert again.images.table.equals(expected.images.table)
    assert again.proof() == expected.proof()
    assert len(again) == 30
    assert not chosen(again) & damaged.keys()
    row = again.images.table.row(by_predicate=pl.col("path") == free[0], named=True)
    assert (row["rejection"], row["rejection_detail"]) == ("unreadable", "cut off")


def test_an_image_that_is_to_be_kept_is_not_left_out_silently():
    decisions = Decisions(frozenset([f"{7:064x}"]), frozenset())
    first = select(portfolio(60), 5, decisions=decisions)
    with pytest.raises(ImpossibleDecisionsError, match="char_00007"):
        select_again(first, {"char_00007.png": "cut off"})


def test_what_it_was_chosen_of_must_be_known():
    from dataclasses import replace

    first = select(portfolio(60), 5)
    with pytest.raises(NotKnownOfWhatError, match="Select once more"):
        select_again(replace(first, problem=None), {})
