"""A bystander, and a face out of focus before a sharp ground, with detectors of real faces.

With dlib where it is installed, and with the pack that CURATOR_FACE_PACK names, if one is at hand:
a folder of ONNX files, or the name of an insightface pack that is installed.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from character_curator.analysis.cropping import CropWish, crop_images
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_validation import FaceThresholds, validate_faces
from character_curator.analysis.quality import score_quality
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.reading.crops import crop_record
from tests.support.tiny_analysis import write_images

FACE = (218, 100)
"""Middle of the face in the photograph; it is 70 pixels wide."""


def _dlib():
    return find_spec("dlib") and find_spec("face_recognition_models")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            "dlib",
            marks=pytest.mark.skipif(
                not _dlib(), reason="needs dlib-bin and face-recognition-models"
            ),
        ),
        pytest.param(
            os.environ.get("CURATOR_FACE_PACK", ""),
            id="own",
            marks=pytest.mark.skipif(
                not os.environ.get("CURATOR_FACE_PACK"),
                reason="CURATOR_FACE_PACK names no pack of real faces",
            ),
        ),
    ],
)
def analyser(request):
    return FaceAnalyser(request.param)


@pytest.fixture(scope="module")
def astronaut():
    """A public-domain portrait of 512 x 512 pixels."""
    found = find_spec("skimage")
    if found is None:
        pytest.skip("needs scikit-image for a photograph")
    folder = Path(found.submodule_search_locations[0])
    image = cv2.imread(str(folder / "data" / "astronaut.png"))
    if image is None:
        pytest.skip("scikit-image does not ship astronaut.png")
    return image


def test_of_a_person_and_a_bystander_the_person_is_taken_and_cropped(analyser, astronaut, tmp_path):
    image = np.full((512, 900, 3), (138, 132, 122), np.uint8)
    image[:, :512] = astronaut
    small = cv2.resize(astronaut[0:300, 120:330], None, fx=0.6, fy=0.6)
    image[180 : 180 + len(small), 650 : 650 + small.shape[1]] = small
    write_images(tmp_path / "set", {"bystander.png": image})
    write_images(tmp_path, {"reference.png": astronaut})
    images = ImageSet.from_folder(tmp_path / "set")
    references = [tmp_path / "reference.png"] if analyser.has_recogniser else []
    limits = FaceThresholds(choice=None if references else "largest")
    with FeatureStore() as store:
        plain = validate_faces(images, analyser, store).table
        assert plain["rejection"].to_list() == ["several_faces"]
        found = validate_faces(images, analyser, store, limits, references).table
        made = crop_images(
            images, analyser, store, tmp_path / "crops", CropWish("bust"),
            thresholds=limits, references=references,
        )  # fmt: skip
        again = validate_faces(made, analyser, store, limits, references).table
    assert found["rejection"].to_list() == [None]
    assert found["faces_found"].to_list() == [2]
    left, _top, right, _bottom = found["face_box"][0]
    assert left < FACE[0] < right < 300
    [record] = [crop_record(path) for path in made.paths()]
    assert record.source == "bystander.png"
    assert record.box[2] < 620  # the bystander is out of the picture
    assert again["rejection"].to_list() == [None]
    assert again["face_count"].to_list() == [1]


def test_a_face_out_of_focus_fails_however_sharp_its_ground(analyser, astronaut, tmp_path):
    soft = cv2.GaussianBlur(astronaut, (0, 0), 5)
    mask = np.zeros(astronaut.shape[:2], np.float32)
    cv2.ellipse(mask, FACE, (52, 62), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    blurred = np.rint(astronaut * (1 - mask) + soft * mask).astype(np.uint8)
    write_images(tmp_path, {"a.png": astronaut, "b.png": blurred})
    images = ImageSet.from_folder(tmp_path)
    with FeatureStore() as store:
        found = validate_faces(images, analyser, store, FaceThresholds(confidence=0.0))
        scored = score_quality(found, store).table
        strict = score_quality(validate_faces(images, analyser, store), store).table
    assert scored["raw_sharpness"][1] > 0.8 * scored["raw_sharpness"][0]
    assert strict["rejection"][0] is None
    assert strict["rejection"][1] is not None
    assert strict["quality"][0] >= 0.74
    box = scored["face_box"][1]
    # dlib sees no face there any more, and an uncertain one in the suit.
    if box is not None and box[0] < FACE[0] < box[2] and box[1] < FACE[1] < box[3]:
        assert scored["quality"][1] < 0.4
