"""Real faces in a real photograph, with dlib's models: what a user's first folder meets."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from character_curator.analysis import dlib_faces
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_choice import FaceChoiceError
from character_curator.analysis.face_packs import FacePackError
from character_curator.analysis.face_validation import (
    FaceThresholds,
    ReferenceFaceError,
    validate_faces,
)
from character_curator.analysis.quality import quality_scores, score_quality
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.tiny_analysis import write_images

needs_dlib = pytest.mark.skipif(
    not (find_spec("dlib") and find_spec("face_recognition_models") and find_spec("skimage")),
    reason="needs dlib-bin, face-recognition-models, and scikit-image for a photograph",
)


def shipped(package, *parts):
    found = find_spec(package)
    folder = Path(found.submodule_search_locations[0])
    image = cv2.imread(str(folder.joinpath(*parts)))
    if image is None:
        pytest.skip(f"{package} does not ship {parts[-1]}")
    return image


@pytest.fixture(scope="module")
def astronaut():
    """A public-domain portrait of 512 x 512 pixels."""
    return shipped("skimage", "data", "astronaut.png")


@pytest.fixture(scope="module")
def stranger():
    """Another person, of a group that insightface ships."""
    return shipped("insightface", "data", "images", "t1.jpg")[200:440, 20:210]


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser("dlib")


def bystander(astronaut, stranger):
    """The person large on the left, another as tall on the right."""
    other = cv2.resize(stranger, (378, 512))
    return np.hstack([astronaut[:, :330], other])


@needs_dlib
def test_landmarks_boxes_and_identity(analyser, astronaut):
    faces = analyser.detect(astronaut)
    assert len(faces) == 1  # the model in the background is none
    left, top, right, bottom = faces.boxes[0]
    assert left < 200 < 250 < right
    assert 40 < top < 65  # the forehead, not the brows
    assert bottom - top > 1.25 * (right - left)
    assert 160 < bottom < 225
    right_outer, right_inner, left_outer, left_inner, nose = faces.landmarks[0]
    assert left_outer[0] < left_inner[0] < nose[0] < right_inner[0] < right_outer[0]
    assert nose[1] > max(left_inner[1], right_inner[1])
    vectors = analyser.identify(
        [analyser.crop(image, analyser.detect(image).landmarks[0])
         for image in (astronaut, cv2.resize(astronaut, None, fx=1.6, fy=1.6))]
    )  # fmt: skip
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.97


@needs_dlib
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 1, 3), (7, 5, 3), (60, 60, 3)])
def test_odd_images_have_no_face(analyser, shape):
    assert len(analyser.detect(np.full(shape, 128, np.uint8))) == 0


@needs_dlib
def test_a_face_that_fills_the_frame_is_found(analyser, astronaut):
    close = cv2.resize(astronaut[95:180, 185:260], None, fx=5, fy=5)
    assert len(analyser.backend.detect(close, 640)) == 0
    faces = analyser.detect(close)
    assert len(faces) == 1
    assert np.prod(faces.sides()) > 0.6 * close.shape[0] * close.shape[1]


@needs_dlib
def test_such_a_close_up_will_do_as_the_reference(analyser, astronaut, stranger, tmp_path):
    close = cv2.resize(astronaut[95:180, 185:260], None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    write_images(tmp_path, {"close.png": close})
    write_images(tmp_path / "set", {"a.png": astronaut, "b.png": stranger})
    with FeatureStore() as store:
        found = validate_faces(
            ImageSet.from_folder(tmp_path / "set"), analyser, store,
            references=[tmp_path / "close.png"],
        )  # fmt: skip
    assert found.table["rejection"].to_list() == [None, "identity_mismatch"]


@needs_dlib
def test_of_a_folder_the_good_photographs_pass(analyser, astronaut, stranger, tmp_path):
    width = 110
    blur = cv2.GaussianBlur(astronaut, (0, 0), 0.03 * width)
    noise = np.random.default_rng(0).normal(0, 12, astronaut.shape)
    images = {
        "a good.png": astronaut,
        "b large.png": cv2.resize(astronaut, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC),
        "c blurred.png": blur,
        "d blurred, noisy.png": np.clip(blur + noise, 0, 255).astype(np.uint8),
        "e burnt.png": np.clip(astronaut * 2.2 + 30.0, 0, 255).astype(np.uint8),
        "f blocks.png": cv2.imdecode(cv2.imencode(".jpg", astronaut, [1, 10])[1], 1),
        "g two.png": bystander(astronaut, stranger),
        "h nobody.png": np.full((300, 300, 3), 90, np.uint8),
    }
    write_images(tmp_path, images)
    with FeatureStore() as store:
        found = validate_faces(ImageSet.from_folder(tmp_path), analyser, store)
        scored = score_quality(found, store)
        again = score_quality(found, store, formula="seed-document")
    table = scored.table
    assert [Path(p).stem[0] for p in scored.accepted.table["path"]] == ["a", "b"]
    reasons = dict(zip((p[0] for p in table["path"]), table["rejection"], strict=True))
    assert reasons["g"] == "several_faces"
    assert reasons["h"] == "no_face"
    for row in "cdef":
        assert reasons[row] in ("low_quality", "low_confidence", "no_face")
    assert table["pose"][0] == "frontal"
    assert table["framing"][0] == "half body"
    # Both qualities are there, and the document's is of the detector's own score.
    np.testing.assert_array_equal(
        table["seed_document_quality"].to_numpy(), again.table["quality"].to_numpy()
    )
    assert table["face_score"][0] != table["face_confidence"][0]
    raw = [table[name][0] for name in ("raw_sharpness", "raw_contrast", "face_count", "face_score")]
    assert table["seed_document_quality"][0] == pytest.approx(float(quality_scores(*raw).quality))


@needs_dlib
def test_a_reference_means_this_person(analyser, astronaut, stranger, tmp_path):
    write_images(
        tmp_path / "set",
        {
            "a.png": cv2.flip(astronaut, 1),
            "b.png": stranger,
            "c.png": bystander(astronaut, stranger),
        },
    )
    write_images(tmp_path, {"reference.png": astronaut})
    images = ImageSet.from_folder(tmp_path / "set")
    with FeatureStore() as store:
        plain = validate_faces(images, analyser, store)
        assert plain.table["rejection"].to_list() == [None, None, "several_faces"]
        found = validate_faces(images, analyser, store, references=[tmp_path / "reference.png"])
        assert found.table["rejection"].to_list() == [None, "identity_mismatch", None]
        assert found.table["face_count"].to_list() == [1, 1, 1]
        assert found.table["faces_found"].to_list() == [1, 1, 2]
        assert (found.table["identity_similarity"].to_numpy()[[0, 2]] > 0.92).all()
        assert found.table["face_box"][2][2] < 330  # the person on the left
        store.computed.clear()
        again = validate_faces(images, analyser, store, references=[tmp_path / "reference.png"])
        assert not store.computed
        assert again.table.equals(found.table)
        # A least similarity that fits another pack lets strangers pass, and that is said.
        loose = validate_faces(
            images, analyser, store, FaceThresholds(identity=0.3),
            references=[tmp_path / "reference.png"],
        )  # fmt: skip
        assert loose.table["rejection"].to_list() == [None, None, None]
        assert "0.3 is below 0.92" in loose.notes[-1]
        assert not found.notes
        # The other person is taken where the reference is of the other.
        write_images(tmp_path, {"other.png": stranger})
        others = validate_faces(images, analyser, store, references=[tmp_path / "other.png"])
        assert others.table["rejection"].to_list() == ["identity_mismatch", None, None]
        assert others.table["face_box"][2][0] > 330
        # Nobody of several is the reference's.
        group = ImageSet.from_folder(tmp_path / "set").filter(pl.col("path") == "c.png")
        none = validate_faces(
            group, analyser, store, FaceThresholds(identity=0.999),
            references=[tmp_path / "reference.png"],
        )  # fmt: skip
        assert "none of them the reference's" in none.table["rejection_detail"][0]


@needs_dlib
def test_the_largest_face_may_be_taken(analyser, astronaut, stranger, tmp_path):
    small = cv2.resize(stranger, None, fx=0.5, fy=0.5)
    small = cv2.copyMakeBorder(small, 0, 512 - len(small), 0, 0, cv2.BORDER_REPLICATE)
    write_images(tmp_path, {"a.png": np.hstack([small, astronaut])})
    with FeatureStore() as store:
        images = ImageSet.from_folder(tmp_path)
        found = validate_faces(images, analyser, store, FaceThresholds(choice="largest"))
        assert found.table["rejection"].to_list() == [None]
        assert found.table["faces_found"].to_list() == [2]
        assert found.table["face_box"][0][0] > small.shape[1]
        assert found.table["identity"][0] is not None
        with pytest.raises(FaceChoiceError, match="no reference"):
            validate_faces(images, analyser, store, FaceThresholds(choice="reference"))


@needs_dlib
def test_a_reference_without_a_face_is_refused_first(analyser, astronaut, tmp_path):
    write_images(tmp_path / "set", {"a.png": astronaut})
    write_images(tmp_path, {"grey.png": np.full((300, 300, 3), 90, np.uint8)})
    images = ImageSet.from_folder(tmp_path / "set")
    with FeatureStore() as store, pytest.raises(ReferenceFaceError, match="cropping closer") as no:
        validate_faces(images, analyser, store, references=[tmp_path / "grey.png"])
    assert not store.computed
    assert "no face" in str(no.value)


def test_without_dlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(dlib_faces, "find_spec", lambda name: None)
    with pytest.raises(FacePackError, match="pip install dlib-bin face-recognition-models"):
        FaceAnalyser("dlib").detect(np.zeros((64, 64, 3), np.uint8))
