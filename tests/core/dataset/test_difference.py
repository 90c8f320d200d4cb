"""What changed between two versions: images, captions, scores, settings; and the page of it."""

from __future__ import annotations

import re
import shutil

import polars as pl
import pytest

from character_curator import diff
from character_curator.damages import collected_damage
from character_curator.dataset import export
from character_curator.dataset.difference import NOT_A_CANDIDATE
from character_curator.dataset.difference_page import page
from character_curator.dataset.setting_changes import group_of
from character_curator.dataset.version_list import NoSuchVersionError
from character_curator.imageset import ImageSet, content_hash
from tests.support.images import drawing, make_images, png_bytes

RECIPE = {
    "quality": {"minimum": 0.7},
    "faces": {"pack": "buffalo_l", "minimum_confidence": 0.85},
    "scenarios": [{"number": 26, "name": "park", "prompt": "a park"}],
    "project": {"name": "x", "output": "out"},
}
OTHER = {
    "quality": {"minimum": 0.74},
    "faces": {"pack": "dlib", "minimum_confidence": 0.85},
    "scenarios": [{"number": 26, "name": "park", "prompt": "a <wood>"}],
    "project": {"name": "x", "output": "elsewhere"},
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two versions: ranks 1 to 6, then 2 to 7; one rescored, one redrawn, one renamed."""
    root = tmp_path_factory.mktemp("two")
    images = make_images(root / "raw", 16, selected=8)
    rank = pl.col("selection_rank")

    def exported(chosen: ImageSet, recipe, **options):
        return export(chosen, root / "set", name="x", recipe=recipe, report=False, **options)

    exported(
        images.with_columns((pl.col("selected") & (rank <= 6)).alias("selected")),
        RECIPE,
        models={"faces": "one", "clip": "same"},
    )
    ranks = {row["selection_rank"]: row["path"] for row in images.table.to_dicts()}
    (images.root / ranks[4]).unlink()
    (images.root / ranks[4]).write_bytes(png_bytes(drawing(99)))
    (images.root / ranks[5]).rename(images.root / "renamed.png")
    rows = []
    for row in images.table.to_dicts():
        if row["path"] == ranks[4]:
            row["hash"] = content_hash(images.root / row["path"])
        if row["path"] == ranks[5]:
            row["path"] = "renamed.png"
        if row["path"] == ranks[3]:
            row["quality"] -= 0.01
            row["caption"] = "char1 person, <blue> hoodie"
        rows.append(row)
    table = pl.DataFrame(rows, schema=images.table.schema)
    changed = ImageSet(table, images.root).with_columns(
        (pl.col("selected") & (rank >= 2) & (rank <= 7)).alias("selected")
    )
    exported(changed, OTHER, models={"faces": "two", "clip": "same"})
    return root / "set", ranks


def test_in_out_redrawn_and_renamed(two):
    place, ranks = two
    found = diff(1, "latest", place)
    assert [image.name for image in found.left] == [ranks[1]]
    assert [image.name for image in found.entered] == [ranks[7]]
    assert [image.after for image in found.redrawn] == [ranks[4]]
    assert {(i.before, i.after) for i in found.same} == {
        (ranks[2], ranks[2]), (ranks[3], ranks[3]), (ranks[5], "renamed.png"), (ranks[6], ranks[6]),
    }  # fmt: skip
    assert found.left[0].why == found.entered[0].why == "not selected"
    assert found.left[0].quality > found.entered[0].quality
    assert not found.is_equal


def test_other_files_that_differ_are_named(two, tmp_path):
    place, _ = two
    found = diff(1, 2, place)
    assert {"README.md", "metadata.json", "recipe.toml"} <= {*found.files}
    assert not any(name.endswith((".png", ".txt")) for name in found.files)
    assert "Other files that differ: README.md" in page(found)
    assert found.as_mapping()["files"] == [*found.files]
    assert diff(2, 2, place).files == ()
    # The card's title alone: nothing else would say that they are not equal.
    images = make_images(tmp_path / "raw", 4)
    for name in "ab":
        export(images, tmp_path / "set", name=name, report=False)
    assert "README.md" in diff(1, 2, tmp_path / "set").files


def test_captions_and_scores(two):
    place, ranks = two
    found = diff(1, 2, place)
    (caption,) = found.captions
    assert caption.image.after == ranks[3]
    assert "<blue> hoodie" in caption.after
    assert "<blue>" not in caption.before
    (score,) = found.scores
    assert (score.image.after, score.score) == (ranks[3], "quality_score")
    assert score.after - score.before == pytest.approx(-0.01)


def test_thresholds_models_and_the_rest(two):
    place, _ = two
    found = diff(1, 2, place)
    assert [(c.group, c.key, c.before, c.after) for c in found.settings] == [
        ("thresholds", "quality.minimum", "0.7", "0.74"),
        ("models", "faces.pack", "buffalo_l", "dlib"),
        ("models", "fingerprints.faces", "one", "two"),
        ("plan", "scenarios.26.prompt", "a park", "a <wood>"),
    ]


@pytest.mark.parametrize(
    ("key", "group"),
    [("faces.minimum_identity", "thresholds"), ("faces.detection_size", "models"),
     ("clusters.count", "selection"), ("source", "plan"), ("tools.torch", "tools"),
     ("anything", "dataset")],
)  # fmt: skip
def test_the_group_of_a_setting(key, group):
    assert group_of(key) == group


def test_why_an_image_is_not_in_the_other(tmp_path):
    images = make_images(tmp_path / "raw", 12, selected=None)
    export(images, tmp_path / "set", name="x", report=False)
    first, second = images.accepted.table["path"][:2]
    lower = images.with_columns(
        pl.when(pl.col("path") == first).then(pl.lit("low_quality"))
        .otherwise(pl.col("rejection")).alias("rejection"),
        pl.when(pl.col("path") == first).then(pl.lit("0.70 is below 0.74"))
        .otherwise(pl.col("rejection_detail")).alias("rejection_detail"),
    )  # fmt: skip
    export(lower.filter(pl.col("path") != second), tmp_path / "set", name="x", report=False)
    left = {image.name: image.why for image in diff(1, 2, tmp_path / "set").left}
    assert left == {first: "low quality (0.70 is below 0.74)", second: NOT_A_CANDIDATE}


def test_versions_are_named_by_folders_and_numbers(two):
    place, _ = two
    first = place.with_name("set.versions") / "v0001"
    wanted = diff(1, 2, place)
    assert diff(first, place) == diff(first, "latest") == diff(1, place) == wanted
    assert diff(place, place).is_equal
    assert not any((diff(2, 2, place).settings, diff(2, 2, place).scores))
    with pytest.raises(NoSuchVersionError, match="of which dataset"):
        diff(1, 2)


def test_damage_is_said_and_an_unreadable_image_is_a_blank(two, tmp_path):
    place, ranks = two
    for folder in ("set", "set.versions"):
        shutil.copytree(place.with_name(folder), tmp_path / folder)
    (tmp_path / "set" / ranks[7]).unlink()
    with collected_damage() as noted:
        found = diff(1, 2, tmp_path / "set")
    assert found.damaged == ((), (ranks[7],))
    assert [str(one) for one in noted] == [
        f"1 damaged file of version 2 in {tmp_path / 'set'}: left as they are"
    ]
    text = page(found)
    assert "1 file of version 2 gone or changed" in text
    assert text.count('class="blank"') == 1


def test_the_page_needs_nothing_beside_it_and_has_every_image(two):
    place, ranks = two
    found = diff(1, 2, place)
    text = page(found)
    assert not re.search(r"https?:|<script|<link|src=\"(?!data:)", text)
    # One out, one in, a redrawn one twice, one beside its caption, four in both.
    assert text.count("<img ") == 1 + 1 + 2 + 1 + 4
    assert "&lt;blue&gt;" in text
    assert "<blue>" not in text
    assert "<ins>" in text
    assert "−0.0100" in text
    for part in ("quality.minimum", "buffalo_l", "not selected", "a &lt;wood&gt;", ranks[4]):
        assert part in text
