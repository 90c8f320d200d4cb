"""Decisions about single images: taken exactly, by content, or refused with what is wrong."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from character_curator.dataset import export
from character_curator.selection import (
    Decisions,
    DecisionsFileError,
    ImpossibleDecisionsError,
    Quota,
    select,
    solve,
)
from tests.support.exhaustive import Exhaustive, instances
from tests.support.images import make_images
from tests.support.portfolio import RECIPE, portfolio


@given(instances(least=2), st.data())
@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150)
def test_the_best_selection_around_kept_rows_equals_brute_force(instance, data):
    values, groups, pairs, total = instance
    row = st.integers(0, len(values) - 1)
    keep = sorted(data.draw(st.sets(row, min_size=1, max_size=total)))
    assume(not any(a != b and a in keep and b in keep for a, b in pairs))
    found = solve(values, groups, pairs, total, keep=keep)
    every = Exhaustive(len(values), pairs)
    every.subsets = every.subsets[every.subsets[:, keep].all(axis=1)]
    size, deviations, value = every.best(values, groups, total)
    assert set(keep) <= set(found.rows.tolist())
    assert (len(found.rows), found.deviations) == (size, deviations)
    assert found.objective == pytest.approx(value, abs=1e-9 * max(1.0, np.abs(values).max()))
    assert found.objective == math.fsum(values[found.rows])
    assert (found.gap, found.bound) == (0.0, found.objective)


def hashes(table, condition):
    return frozenset(table.filter(condition)["hash"])


@pytest.fixture(scope="module")
def plain():
    return select(portfolio(), 70, RECIPE)


def test_kept_and_vetoed_images_are_as_decided(plain):
    table = plain.images.table
    left = table.filter(pl.col("rejection") == "quota").sort("quality")
    keep = frozenset(left["hash"][:3])
    veto = frozenset(plain.selected.table["hash"][:4]) | {table["hash"][3]}
    given_away = Decisions(keep, veto | {"f" * 64})
    found = select(portfolio(), 70, RECIPE, decisions=given_away)
    chosen = set(found.selected.table["hash"])
    assert keep <= chosen
    assert not chosen & veto
    assert found.met
    assert len(found) == 70
    assert found.objective < plain.objective
    assert found.optimal
    vetoed = found.images.table.filter(pl.col("rejection") == "veto")
    assert set(vetoed["hash"]) == veto - {table["hash"][3]}
    assert set(found.images.table["decision"].drop_nulls()) == {"keep", "veto"}
    said = "3 kept, 4 vetoed, 1 vetoed that had been rejected anyway; 1 unknown"
    assert any(said in line for line in found.sentences())
    assert found.proof()["decisions"] == {"kept": 3, "vetoed": 4, "idle": 1, "unknown": 1}


def test_without_decisions_nothing_changes(plain):
    again = select(portfolio(), 70, RECIPE, decisions=Decisions())
    assert again.images.table.drop("decision").equals(plain.images.table)
    assert "decision" not in plain.images.table.columns
    assert "decisions" not in plain.proof()


def test_decisions_survive_a_rename(plain):
    images = portfolio(path=lambda i, row: f"renamed/{i * 7919 % 1000:05}.png")
    keep = frozenset(plain.images.table.filter(pl.col("rejection") == "quota")["hash"][:2])
    found = select(images, 70, RECIPE, decisions=Decisions(keep))
    assert keep <= set(found.selected.table["hash"])


def test_a_crop_is_known_by_its_original(plain):
    def original(i, row):
        return row["hash"] if i % 2 else None

    images = portfolio(crop_source_hash=original, hash=lambda i, row: f"{i + 1000 * (i % 2):064x}")
    left = plain.images.table.filter(pl.col("rejection") == "quota")
    keep = frozenset(left["hash"][:4])
    paths = set(left["path"][:4])
    assert {int(path[5:10]) % 2 for path in paths} == {0, 1}
    found = select(images, 70, RECIPE, decisions=Decisions(keep))
    assert paths <= set(found.selected.table["path"])


def test_of_equal_files_one_is_kept_and_none_vetoed():
    images = portfolio(12, hash=lambda i, row: f"{i // 2:064x}", rejection=lambda i, row: None)
    pairs = [(i, i + 1) for i in range(0, 12, 2)]
    kept = select(images, 4, conflicts=pairs, decisions=Decisions(frozenset({f"{1:064x}"})))
    assert kept.selected.table["hash"].to_list().count(f"{1:064x}") == 1
    vetoed = Decisions(veto=frozenset({f"{1:064x}"}))
    assert f"{1:064x}" not in set(select(images, 4, decisions=vetoed).selected.table["hash"])


IMPOSSIBLE = {
    "rejected before": (lambda t: pl.col("rejection").is_not_null(), 1, "no face (none found)"),
    "too many": (lambda t: pl.col("rejection").is_null(), 80, "80 images are to be kept"),
    "a quota's maximum": (
        lambda t: pl.col("rejection").is_null() & (pl.col("seed") == 966983),
        9,
        "9 images of seed 966983 are to be kept, of which the quota allows 7: char_",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_set_is_refused_and_says_which(case):
    condition, count, words = IMPOSSIBLE[case]
    table = portfolio().table
    keep = frozenset(sorted(hashes(table, condition(table)))[:count])
    with pytest.raises(ImpossibleDecisionsError) as refused:
        select(portfolio(), 70, RECIPE, decisions=Decisions(keep))
    assert words in str(refused.value)
    assert any(name in str(refused.value) for name in table["path"]) or case == "too many"


def test_near_duplicates_and_starved_minimums_are_refused():
    images = portfolio(20, rejection=lambda i, row: None, seed=lambda i, row: i % 4)
    keep = frozenset(images.table["hash"][:2])
    with pytest.raises(ImpossibleDecisionsError, match=r"00000\.png and char_00001\.png"):
        select(images, 6, conflicts=[(0, 1)], decisions=Decisions(keep))
    quota = [Quota("seed", minimum={1: 3, 2: 3})]
    one = Decisions(frozenset(images.table["hash"][:1]))
    with pytest.raises(ImpossibleDecisionsError, match=r"leave too few: char_00000\.png"):
        select(images, 6, quota, decisions=one)


def test_a_quota_that_decisions_starve_is_relaxed_and_explained():
    images = portfolio(
        16, rejection=lambda i, row: None, seed=lambda i, row: i % 2, cluster=lambda i, row: i // 8
    )
    veto = hashes(images.table, (pl.col("seed") == 0) & (pl.col("cluster") == 0))
    found = select(
        images, 8, [Quota("seed", exact=4), Quota("cluster", exact={0: 5})],
        decisions=Decisions(veto=veto),
    )  # fmt: skip
    assert not found.met
    assert len(found) == 8
    assert [(r.column, r.amount) for r in found.relaxations] == [("cluster", 1)]


def test_a_file_comes_back_as_it_was_written(tmp_path):
    some = Decisions(frozenset({"a" * 64, "b" * 64}), frozenset({"c" * 64}), {"c" * 64: "<x> [y]"})
    (tmp_path / "d.json").write_text(some.to_json(), encoding="utf-8")
    again = Decisions.read(tmp_path / "d.json")
    assert (again, again.names["c" * 64]) == (some, "<x> [y]")
    assert again.to_json() == some.to_json()


BROKEN = {
    "no json": ("{", "Expecting"),
    "a list": ("[]", "list indices"),
    "nested": ("[" * 100_000, "too deeply"),
    "half a character": ('{"format": 1, "decisions": [], "x": "\\ud800"}', "half a character"),
    "without rows": ('{"format": 1}', "decisions"),
    "newer": ('{"format": 2, "decisions": []}', "newer"),
    "no hash": ('{"format": 1, "decisions": [{"hash": "x", "decision": "keep"}]}', "hash"),
    "no word": (json.dumps({"format": 1, "decisions": [{"hash": "a" * 64, "decision": "yes"}]}),
                "neither"),
    "both": (json.dumps({"format": 1, "decisions": [
        {"hash": "a" * 64, "decision": side} for side in ("keep", "veto")]}), "both"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_used_says_why(tmp_path, case):
    text, words = BROKEN[case]
    (tmp_path / "d.json").write_text(text, encoding="utf-8")
    with pytest.raises(DecisionsFileError, match=words) as refused:
        Decisions.read(tmp_path / "d.json")
    assert "d.json" in str(refused.value)
    with pytest.raises(DecisionsFileError, match="No such file"):
        Decisions.read(tmp_path / "none.json")


def test_an_export_keeps_the_decisions_beside_its_recipe(tmp_path):
    images = make_images(tmp_path / "raw", 24, selected=None)
    veto = frozenset(images.accepted.table["hash"][:1])
    found = select(images, 6, decisions=Decisions(veto=veto))
    folder = export(found.images, tmp_path / "out", name="x", selection=found).folder
    assert Decisions.read(folder / "decisions.json").veto == veto
    table = pl.read_parquet(folder / "provenance.parquet")
    assert table.filter(pl.col("decision") == "veto")["hash"].to_list() == list(veto)
