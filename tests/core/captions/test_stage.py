"""Captions in a project: a model writes them, and all are edited, between selection and export."""

from __future__ import annotations

import pytest

from character_curator import pipeline, project
from character_curator.captions.captioners import CaptionerNotFoundError
from character_curator.captions.edits import EditError
from character_curator.captions.stage import Captioning
from character_curator.dataset import CuratedDataset
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.project import ProjectFileError
from tests.support.images import make_images
from tests.support.tiny_analysis import needs_miniature_faces, portrait, write_images
from tests.support.tiny_captioners import tiny_tagger

EDITS = [
    {"remove": "Studio"}, {"add_front": "photo"}, {"replace_words": ["photo", "picture"]},
    {"replace_pattern": [r"(\d)girl", r"\1 girl"]}, {"prune": 1.0, "keep": "picture"},
    {"add": "picture, sunlit"}, {"deduplicate": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return tiny_tagger(tmp_path_factory.mktemp("tagger"))


def parsed(**captions):
    return project.from_mapping({"source": "in", "captions": captions}, "p")


def test_a_model_writes_and_edits_follow_in_their_order(tagger, tmp_path):
    images = make_images(tmp_path)
    asked = parsed(model=str(tagger), existing="replace", most=1, edits=EDITS)
    with FeatureStore() as store:
        stage = Captioning.of(asked.captions, "char1")
        made = stage(images, store)
        again = Captioning.of(asked.captions, "char1")(images, store)
    chosen = made.table.filter("selected")
    assert all(text.startswith("picture") and text.endswith("sunlit") for text in chosen["caption"])
    assert not any("1 girl" in text for text in chosen["caption"])  # all say it: pruned
    count = len(chosen)
    assert f"{count} captions written by" in made.notes[0]
    assert f"{count} captions edited: remove 'Studio'; add 'photo' in front;" in made.notes[1]
    assert "1 girl" in made.notes[2]
    assert again.table.equals(made.table)


@needs_miniature_faces
def test_a_dataset_has_the_captions_that_its_project_asks_for(tagger, tmp_path):
    write_images(tmp_path / "in", {f"{i}.png": portrait(i) for i in range(3)})
    (tmp_path / "in" / "0.txt").write_text("my own words")
    asked = project.from_mapping(
        {
            "source": "in",
            "faces": {"minimum_confidence": 0.3},
            "quality": {"minimum": 0.0},
            "clusters": {"count": 2},
            "selection": {"total": 3},
            "duplicates": {"threshold": 1.0, "copies": False},
            "dataset": {"trigger": "zoe"},
            "captions": {"model": "tagger", "most": 1, "edits": [{"add": "sunlit"}]},
        },
        "p",
    )
    (tmp_path / "tagger").symlink_to(tagger)
    images = ImageSet.from_folder(tmp_path / "in")
    made = pipeline.curate(images, asked, tmp_path / "work", base=tmp_path)
    captions = {
        values["source"]: values["caption"]
        for values in CuratedDataset(made.exported.folder).metadata.values()
    }
    assert len(captions) == 3
    assert all(text.startswith("zoe") and text.endswith("sunlit") for text in captions.values())
    assert sum("my own words" in text for text in captions.values()) == 1
    assert sum("1girl" in text for text in captions.values()) == 2
    assert f"2 captions written by {tagger.name}; 1 kept." in made.crops


def test_what_cannot_be_done_is_said_before_anything_is_measured(tmp_path):
    with pytest.raises(CaptionerNotFoundError, match="no model at 'nothing here'"):
        Captioning.of(parsed(model="nothing here").captions)
    with pytest.raises(EditError, match="Edit 2 of the captions"):
        Captioning.of(parsed(edits=[{"add": "a"}, {"replace_pattern": ["(", ""]}]).captions)
    with pytest.raises(ProjectFileError, match=r"has one of these keys.*add, remove"):
        parsed(edits=[{"add": "a", "remove": "b"}])
    with pytest.raises(ProjectFileError, match="'keep' goes with 'prune'"):
        parsed(edits=[{"add": "a", "keep": "b"}])
    with pytest.raises(ProjectFileError, match="threshold"):
        parsed(threshold=3)
