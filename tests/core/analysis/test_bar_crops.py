"""Bars cut off: what is left is the image, and names its original, also in a further crop."""

import cv2
import numpy as np
import pytest

from character_curator import project
from character_curator.analysis.bar_crops import cut_bars
from character_curator.analysis.cropping import CropWish, crop_images
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_validation import FaceThresholds
from character_curator.features import FeatureStore
from character_curator.generation.reproduce import reproduce
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from character_curator.pipeline import unblemished
from character_curator.project import ProjectFileError
from character_curator.reading.crops import crop_record
from tests.support.tiny_analysis import needs_miniature_faces, portrait, write_images

HEIGHT, WIDTH, BAR = 240, 320, 40


@pytest.fixture
def barred(tmp_path):
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 216, (6, 8, 3)).astype(np.uint8)
    inside = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    box = cv2.copyMakeBorder(inside, BAR, BAR, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    sliver = np.full((400, 400, 3), 255, np.uint8)
    sliver[180:220] = rng.integers(0, 200, (40, 400, 3))
    write_images(tmp_path / "in", {"box.png": box, "plain.png": inside, "sliver.png": sliver})
    return ImageSet.from_folder(tmp_path / "in"), box


def test_what_lies_within_the_bars_becomes_the_image(barred, tmp_path):
    images, box = barred
    with FeatureStore() as store:
        cut = cut_bars(images, store, tmp_path / "crops", 0.02)
    assert cut.table["source"].to_list() == ["box.png", "plain.png", "sliver.png"]
    left, top, right, bottom = cut.table["crop_box"][0]
    assert (left, right) == (0, WIDTH)
    assert BAR <= top <= BAR + 4
    assert BAR + HEIGHT - 4 <= bottom <= BAR + HEIGHT
    made = cv2.imread(str(cut.paths()[0]))
    assert np.array_equal(made, box[top:bottom])
    assert cut.table["crop_box"][1] is None
    assert cut.table["rejection"].to_list() == [None, None, "bars"]
    assert "within its bars only" in cut.table["rejection_detail"][2]
    assert cut.notes[-1].startswith("Bars were cut off 1 of 3 images. 1 rejected")
    assert reproduce(cut.paths()[0], source=tmp_path / "in").identical
    with FeatureStore() as store:
        kept = cut_bars(images, store, tmp_path / "crops", 0.95)
    assert kept.table.equals(images.table)
    assert "No bars to be cut off" in kept.notes[-1]


def test_a_project_cuts_them_instead_of_leaving_the_images_out(barred, tmp_path):
    images, _ = barred
    asked = project.from_mapping({"source": "in", "blemishes": {"cut_bars": True}}, "p")
    with FeatureStore() as store:
        found = unblemished(asked, images, store, output=tmp_path / "work")
    assert found.paths()[0].is_relative_to(tmp_path / "work" / "crops")
    assert found.rejections() == {"bars": 1}
    with pytest.raises(ProjectFileError, match="cut_bars"):
        project.from_mapping({"source": "in", "blemishes": {"cut_bars": "crop"}}, "p")


@needs_miniature_faces
def test_a_crop_without_bars_is_cropped_again_and_names_the_original(tmp_path):
    framed = cv2.copyMakeBorder(
        portrait(10, framing="half body"), 16, 16, 24, 24, cv2.BORDER_CONSTANT, value=(255, 0, 0)
    )
    write_images(tmp_path / "in", {"framed.png": framed})
    images = ImageSet.from_folder(tmp_path / "in")
    with FeatureStore() as store:
        cut = cut_bars(images, store, tmp_path / "crops", 0.02)
        made = crop_images(
            cut,
            FaceAnalyser(FACE_PACK_PATH),
            store,
            tmp_path / "crops",
            CropWish("bust", "1:1"),
            thresholds=FaceThresholds(confidence=0.3),
        )
    first, second = crop_record(cut.paths()[0]), crop_record(made.paths()[0])
    assert second.source == "framed.png"
    assert second.source_hash == first.source_hash == images.table["hash"][0]
    assert second.source_size == (176, 160)
    assert second.box[2] - second.box[0] < first.box[2] - first.box[0]
    assert made.table["crop_box"][0].to_list() == list(second.box)
    assert made.table["crop_source_hash"][0] == first.source_hash
    left, top, right, bottom = second.box
    assert np.array_equal(cv2.imread(str(made.paths()[0])), framed[top:bottom, left:right])
    assert reproduce(made.paths()[0], source=tmp_path / "in").identical
