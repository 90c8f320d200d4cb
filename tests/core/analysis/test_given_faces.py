"""Faces that something else has found: they count, and the pack tells who they are."""

import numpy as np
import pytest

from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_validation import FaceThresholds, validate_faces
from character_curator.analysis.given_faces import GivenFace, GivenFacesError, with_given
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)

pytestmark = needs_miniature_faces
LIMITS = FaceThresholds(share=0.0, side=1, raw=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    write_images(folder, {"a.png": portrait(3), "b.png": group(), "c.png": empty_place()})
    (folder / "d.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return ImageSet.from_folder(folder)


def given_of(images):
    """What the pack itself finds, as shares; of the group, the second face alone."""
    analyser = FaceAnalyser(FACE_PACK_PATH)
    from character_curator.analysis.decoding import read_image

    faces = []
    for path, which in zip(images.paths()[:2], (0, 1), strict=True):
        image = read_image(path)
        size = np.array([image.shape[1], image.shape[0]] * 2)
        faces.append([GivenFace(tuple((analyser.detect(image).boxes[which] / size).tolist()))])
    return faces


def test_given_faces_take_the_place_of_what_the_pack_finds(photos):
    faces = given_of(photos)
    elsewhere = [GivenFace((0.1, 0.1, 0.5, 0.6))]
    with FeatureStore() as store:
        analyser = with_given(photos, store, FACE_PACK_PATH, [*faces, elsewhere])
        found = validate_faces(photos, analyser, store, LIMITS).table
        alone = validate_faces(photos, FaceAnalyser(FACE_PACK_PATH), store, LIMITS).table
    assert found["rejection"].to_list() == [None, None, None, "unreadable"]
    assert found["face_confidence"].to_list()[:3] == [1.0] * 3
    assert found["face_landmarks"][0].to_list() == alone["face_landmarks"][0].to_list()
    assert found["pose"][0] is not None
    # No face is where none was found: it counts, its pose is not guessed, and it is compared.
    assert found["pose"][2] is found["face_landmarks"][2] is None
    assert found["identity"][2] is not None
    assert alone["rejection"][1] == "several_faces"


def test_who_it_is_is_told_by_the_pack(photos):
    with FeatureStore() as store:
        analyser = with_given(photos, store, FACE_PACK_PATH, [*given_of(photos), []])
        reference = photos.paths()[0]
        found = validate_faces(photos, analyser, store, LIMITS, [reference]).table
    assert found["identity_similarity"][0] > 0.9
    assert found["rejection"][2] == "no_face"


def test_landmarks_that_are_given_are_taken(photos):
    points = ((0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.42, 0.6), (0.58, 0.6))
    face = GivenFace((0.3, 0.2, 0.7, 0.8), points)
    with FeatureStore() as store:
        analyser = with_given(photos, store, FACE_PACK_PATH, [[face], [face, face], []])
        found = validate_faces(photos, analyser, store, LIMITS).table
        assert np.array(found["face_landmarks"][0]).reshape(5, 2)[0] == pytest.approx([51.2, 51.2])
        assert found["rejection"][1] == "several_faces"
        computed = dict(store.computed)
        again = with_given(photos, store, FACE_PACK_PATH, [[face], [face, face], []])
        validate_faces(photos, again, store, LIMITS)
        assert dict(store.computed) == computed
        other = with_given(photos, store, FACE_PACK_PATH, [[], [face, face], []])
        assert validate_faces(photos, other, store, LIMITS).table["rejection"][0] == "no_face"


def test_faces_of_another_number_of_images_are_refused(photos):
    with FeatureStore() as store, pytest.raises(GivenFacesError, match="of 2 images, and 3"):
        with_given(photos, store, FACE_PACK_PATH, [[], []])
