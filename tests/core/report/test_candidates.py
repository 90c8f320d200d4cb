"""What the report says of each candidate: why not, what if, how alike, in what room."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from character_curator.analysis.duplicates import find_duplicates
from character_curator.dataset.verdict import report_with, report_without_later
from character_curator.imageset import ImageSet, vector_column
from character_curator.report import render
from character_curator.report.likeness import likeness
from character_curator.report.thumbnails import embedded
from character_curator.report.why import forced_in
from character_curator.selection import Decisions, Price, Quota, prices, select
from tests.support.images import make_images

EVIL = "</script><script>bad()</script> [x] <!-- verdict --> & \u2028.png"
NAMES, VALUES = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"], [0.9, 0.8, 0.7, 0.6, 1, 1]

SAID = [
    (
        Price(0.0132, leaves=(0,)),
        "Forced in, it would take the place of a.png (0.90), and the total quality would fall by "
        "0.0132 (exact).",
    ),
    (
        Price(0.02, leaves=(0, 1, 2, 3, 4), enters=(5,)),
        "Forced in, it would take the place of a.png (0.90), b.png (0.80), c.png (0.70) and 2 "
        "others, f.png (1.00) would enter with it, and the total quality would fall by 0.0200 "
        "(exact).",
    ),
    (
        Price(-0.5, leaves=(1,), missed=(("seed", 1), ("total", 2))),
        "Forced in, it would take the place of b.png (0.80), the total quality would rise by "
        "0.5000, the quota on seed would be missed by 1 more, and the total would be missed by 2 "
        "more (exact).",
    ),
    (Price(0.0, leaves=(1,)), "stay as it is (exact)."),
    (Price(0.01, exact=False), "at least 0.0100 (a bound: this image was not solved for)."),
    (Price(math.inf, exact=False), "Forced in, some quota would be missed by more than it is."),
    (Price(None), "It cannot be forced in beside the images that decisions keep."),
]


@pytest.mark.parametrize(("price", "words"), SAID)
def test_what_forcing_in_would_change_is_said(price, words):
    assert forced_in(price, NAMES, VALUES, "quality").endswith(words)


def parsed(text):
    """What the page's script works with."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    )


def test_the_page_has_every_price_and_decision(tmp_path):
    images = make_images(tmp_path, 48, selected=None)
    kept, vetoed = images.accepted.table["hash"][7:9]
    decisions = Decisions(frozenset({kept}), frozenset({vetoed, "f" * 64}), {"f" * 64: "gone.png"})
    selection = select(images, 12, [Quota("seed", exact=3)], decisions=decisions)
    text = render(selection.images, name="x", selection=selection)
    page = parsed(text)
    costs = prices(selection)
    assert len(costs) == selection.candidates - 12 > 0
    for row, known in enumerate(page["rows"]):
        assert known["hash"] == selection.images.table["hash"][row]
        if row in costs:
            assert known["price"] == pytest.approx(costs[row].cost, abs=1e-5)
            assert known["leaves"] == list(costs[row].leaves)
        else:
            assert known["price"] is None
    assert {(one["hash"], one["decision"], one["name"]) for one in page["decisions"]} == {
        (kept, "keep", ""), (vetoed, "veto", ""), ("f" * 64, "veto", "gone.png"),
    }  # fmt: skip
    assert text.count("Forced in, ") >= len(costs)
    assert "kept by a decision" in text
    assert "− 1 veto<" in text


def test_the_same_set_is_the_same_page(tmp_path):
    images = make_images(tmp_path, 24, selected=None)
    one, other = (
        render(made.images, name="x", selection=made)
        for made in (select(images, 6), select(images, 6))
    )
    assert one == other


def test_nothing_in_a_name_becomes_part_of_the_page(tmp_path):
    images = make_images(tmp_path, 12, selected=None)
    table = images.table.with_columns(
        [
            pl.lit(EVIL).alias(name)
            for name in ("caption", "prompt", "cluster_name", "scenario_name")
        ]
    ).with_columns((pl.lit(EVIL) + pl.col("path")).alias("path"))
    evil = ImageSet(table.with_columns(pl.lit(0).alias("duplicate_group")), tmp_path)
    text = render(evil, name=EVIL, trigger=EVIL, recipe={"a": EVIL})
    assert "<script>bad" not in text
    assert text.count("<script") == 2
    assert "\u2028" not in re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert parsed(text)["name"] == EVIL
    assert parsed(text)["rows"][0]["path"].startswith(EVIL)
    assert text.count("<!-- verdict -->") == 1, "a name makes no place for a verdict"


def test_texts_of_megabytes_are_shortened(tmp_path):
    images = make_images(tmp_path, 6, selected=2)
    names = ("caption", "scenario_name", "cluster_name", "pose", "category")
    long = ImageSet(images.table.with_columns(pl.lit("y" * 1_000_000).alias(n) for n in names),
                    tmp_path)  # fmt: skip
    whole, short = (render(one, name="x", trigger="y") for one in (long, images))
    assert len(whole) < len(short) + 6 * 4 * 2500
    assert parsed(whole)["rows"][0]["prompt"] == "y" * 1999 + "…"


def test_later_parts_go_in_and_out_again():
    plain = "a<!-- verdict --><!-- /verdict -->b<!-- training --><!-- /training -->c"
    text = report_with(plain, {"verdict": r"<p>\1 yes</p>"})
    assert text == plain.replace("<!-- /verdict", r"<p>\1 yes</p><!-- /verdict")
    both = report_with(text, {"training": "T"})
    assert r"\1 yes" in both
    assert "T<!-- /training" in both
    assert report_without_later(both) == plain
    assert report_with("an older report", {"verdict": "x"}) == "an older report"


def test_the_map_is_that_of_principal_components():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 16)) * np.linspace(3, 0.1, 16)
    rows = [{"path": f"{i}.png"} for i in range(42)]
    images = ImageSet.from_rows(rows, ".").with_columns(
        vector_column("embedding", [None, *vectors, None])
    )
    selected = np.isin(np.arange(42), [1, 2, 3])
    found = likeness(images, selected)
    stored = ImageSet(images.table[1:41], images.root).embeddings().astype(float)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    known = PCA(2).fit(unit)
    places = known.transform(unit)
    for axis in range(2):
        assert abs(np.corrcoef(found.places[:, axis], places[:, axis])[0, 1]) > 0.9999
    assert found.explained == pytest.approx(known.explained_variance_ratio_.sum(), abs=1e-6)
    assert found.rows.tolist() == list(range(1, 41))
    for k in range(40):
        others = [j for j in range(3) if j != k]
        best = max(others, key=lambda j: unit[k] @ unit[j])
        assert found.nearest[k] == 1 + best
        assert found.similarity[k] == pytest.approx(unit[k] @ unit[best])
    assert likeness(ImageSet(images.table[:2], images.root), selected[:2]) is None


def test_groups_of_near_duplicates_say_what_was_kept(tmp_path):
    images = make_images(tmp_path, 24, selected=None)
    pairs = np.array([[0, 1], [0, 2], [6, 7]])
    grouped = find_duplicates(images, pairs=pairs)
    made = select(grouped, 8, conflicts=pairs)
    text = render(made.images, name="x", selection=made)
    sizes = made.images.table.drop_nulls("duplicate_group").group_by("duplicate_group").agg(
        pl.len(), pl.col("selected").sum()
    )  # fmt: skip
    assert len(sizes)
    for _, size, kept in sizes.iter_rows():
        assert f"{kept} of {size} selected" in text
    assert "There are no near-duplicates." in render(
        made.images.with_columns(pl.lit(None, dtype=pl.Int32).alias("duplicate_group")), name="x"
    )
    assert "Near-duplicates were not looked for." in render(images, name="x")


def test_thumbnails_keep_their_shape_and_within_a_budget(tmp_path):
    for i, size in enumerate([(400, 100), (100, 400), (300, 300)]):
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / name for name in ("0.png", "1.png", "2.png", "bad.png")]
    plain = embedded(paths)
    assert [one and (one.width, one.height) for one in plain] == [
        (160, 40), (40, 160), (160, 160), None,
    ]  # fmt: skip
    budget = sum(len(one.uri) for one in plain if one) // 3
    fewer = embedded(paths, budget)
    assert sum(len(one.uri) for one in fewer if one) <= budget
    assert fewer[0].width / fewer[0].height == pytest.approx(4, rel=0.1)


def test_with_more_than_are_listed_the_selected_are(tmp_path, monkeypatch):
    images = make_images(tmp_path, 48, selected=None)
    selection = select(images, 12)
    monkeypatch.setattr("character_curator.report.candidates.MAX_ROWS", 20)
    text = render(selection.images, name="x", selection=selection)
    rows = parsed(text)["rows"]
    assert len(rows) == text.count("<figure") == 20
    assert sum(row["reason"] == "selected" for row in rows) == 12
    assert "28 more are not shown on this page." in text
    assert "20 of 48, all that are selected among them" in text
    named = {row["path"] for row in rows}
    for row in rows:
        assert all(rows[k]["path"] in named for k in row["leaves"])
