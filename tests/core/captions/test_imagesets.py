"""Captions of an image set: by a model, edited, and exported as they are."""

from __future__ import annotations

import polars as pl
import pytest

from character_curator.captions import captioner
from character_curator.captions.edits import Add, Prune, Remove
from character_curator.captions.imagesets import caption_images, edit_image_set
from character_curator.captions.settings import CaptionSettings
from character_curator.dataset import CuratedDataset, export
from character_curator.dataset.captions import EDITED, caption
from tests.support.images import make_images
from tests.support.tiny_captioners import tiny_tagger


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return tiny_tagger(tmp_path_factory.mktemp("tagger"))


def captions_of(folder):
    return {name: values["caption"] for name, values in CuratedDataset(folder).metadata.items()}


def test_only_selected_images_are_captioned_and_only_if_they_have_none(images, tagger):
    quota = pl.col("rejection") == "quota"
    images = images.with_columns(pl.when(~quota).then("rejection").alias("rejection"))
    kept = caption_images(images, captioner(tagger))
    assert (kept.made, kept.kept) == ({}, 12)
    settings = CaptionSettings(existing="replace", most=1)
    made = caption_images(images, captioner(tagger, settings), settings=settings)
    chosen = images.table.filter("selected")["path"].to_list()
    assert list(made.made) == chosen
    assert not made.failed
    table = made.images.table
    assert set(table.filter("selected")["caption"]) == {"1girl"}
    same = ~pl.col("selected").fill_null(False)
    assert table.filter(same).equals(images.table.filter(same))
    assert images.table["caption"][0] != "1girl"


def test_a_model_adds_to_what_is_there_or_writes_what_is_missing(images, tagger):
    settings = CaptionSettings(existing="append", most=1)
    made = caption_images(images, captioner(tagger, settings), settings=settings)
    old = images.table.filter("selected")["caption"]
    new = made.images.table.filter("selected")["caption"]
    assert new.to_list() == [f"{text}, 1girl" for text in old]
    bare = images.with_columns(pl.lit(None, pl.String).alias("caption"))
    written = caption_images(bare, captioner(tagger, CaptionSettings(most=1)))
    assert set(written.images.table.filter("selected")["caption"]) == {"1girl"}


def test_somebodys_own_caption_that_is_replaced_is_the_models(images, tagger, tmp_path):
    own = images.with_columns(pl.lit("a.txt").alias("caption_file"))
    settings = CaptionSettings(existing="replace", most=1)
    made = caption_images(own, captioner(tagger, settings), settings=settings)
    assert set(made.images.table.filter("selected")["caption_file"]) == {None}
    export(made.images, tmp_path / "set", name="set", trigger="char1", report=False)
    assert all(text.startswith("char1, 1girl, ") for text in captions_of(tmp_path / "set").values())


def test_an_edit_is_exported_as_it_is(images, tmp_path):
    """Without the view that an export would add again."""
    views = "front view, three-quarter view, profile view"
    edited, made = edit_image_set(images, [Remove(views), Add("film grain")], trigger="char1")
    assert len(made.changes) == len(images.accepted)
    export(images, tmp_path / "before", name="set", trigger="char1", report=False)
    export(edited, tmp_path / "after", name="set", trigger="char1", report=False)
    before, after = captions_of(tmp_path / "before"), captions_of(tmp_path / "after")
    for name, text in before.items():
        kept = [one for one in text.split(", ") if one not in views.split(", ")]
        assert after[name] == ", ".join([*kept, "film grain"])
    assert EDITED not in images.table.columns


def test_an_edit_that_does_nothing_changes_no_export(images, tmp_path):
    edited, made = edit_image_set(images, [Remove("nothing of it")])
    assert made.changes == ()
    for word in ("char1", None):
        export(images, tmp_path / f"a{word}", name="set", trigger=word, report=False)
        export(edited, tmp_path / f"b{word}", name="set", trigger=word, report=False)
        assert captions_of(tmp_path / f"a{word}") == captions_of(tmp_path / f"b{word}")


def test_what_is_pruned_is_said(images):
    _, made = edit_image_set(images, [Prune(0.9, trigger="char1")], trigger="char1")
    assert made.notes == ("Pruned: red hoodie.",)


def test_an_edited_caption_that_names_its_trigger_word_has_it_once():
    row = {"caption": "sun, a photo of char1", EDITED: True, "subject": "char1", "pose": "frontal"}
    assert caption(row) == "sun, a photo of char1"
    assert caption({**row, "caption": "sun"}, "char1") == "char1, sun"
    assert caption({**row, EDITED: None}, "char1") == "char1, sun, a photo of char1, front view"
