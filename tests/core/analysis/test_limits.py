"""What lies exactly at a limit is kept, by every stage alike; and small rules of the stages."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from character_curator.analysis import pixels as pixels_module
from character_curator.analysis.clusters import kmeans_labels
from character_curator.analysis.decoding import decode
from character_curator.analysis.embeddings import _not_too_slim
from character_curator.analysis.face_validation import (
    FaceThresholds,
    _verdict,
    _with_identity,
    face_share,
)
from character_curator.analysis.faces import Faces
from character_curator.analysis.fingerprints import folder_fingerprint
from character_curator.analysis.identities import References, robust_centroid
from character_curator.analysis.pixels import PixelMeasurement
from character_curator.analysis.quality import (
    QualityThresholds,
    quality_ceiling,
    quality_scores,
    reject_hopeless,
    score_quality,
)
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.images import drawing, png_bytes

PIXELS = PixelMeasurement(300.0, 75.0, 100, 80)


def face(left, top, right, bottom, score=0.75):
    box = np.array([[left, top, right, bottom]], np.float32)
    return Faces(box, np.array([score], np.float32), np.zeros((1, 5, 2), np.float32))


def test_only_what_of_a_face_lies_in_the_image_has_a_share_of_it():
    assert face_share(PIXELS, face(-50, -40, 50, 40)) == 0.25
    assert face_share(PIXELS, face(75, 60, 200, 200)) == pytest.approx(1 / 16)
    assert face_share(PIXELS, face(120, 0, 200, 80)) == 0


# A face of 40 x 20 pixels and the score 0.75, in an image of 100 x 80: a tenth.
EXACT = FaceThresholds(confidence=0.75, share=0.1, side=20.0)


@pytest.mark.parametrize("box", [(0, 0, 40, 20), (0, 0, 20, 40)])
def test_a_face_at_every_limit_is_valid(box):
    assert EXACT.admits(PIXELS, face(*box))
    assert _verdict(PIXELS, face(*box), EXACT) is None


@pytest.mark.parametrize("box", [(0, 0, 50, 19), (0, 0, 19, 50), (0, 0, 39, 20)])
def test_a_face_too_small_in_one_way_is_not(box):
    assert not EXACT.admits(PIXELS, face(*box))
    reason, _ = _verdict(PIXELS, face(*box), EXACT)
    assert reason.value == "face_too_small"


@pytest.fixture
def one_image():
    return ImageSet.from_rows([{"path": "a.png", "hash": "a"}], "/nowhere")


def test_an_identity_at_its_limit_is_the_persons(one_image):
    person, other = np.eye(2, dtype=np.float32)
    limits = FaceThresholds(identity=1.0)
    assert len(_with_identity(one_image, [person], References.centre(person), limits).accepted) == 1
    assert len(_with_identity(one_image, [other], References.centre(person), limits).accepted) == 0


def test_a_quality_at_its_limit_is_enough(one_image):
    quality = float(quality_scores(300.0, 75.0, 1, 0.95).quality)
    images = one_image.with_columns(
        pl.lit(1).alias("face_count"), pl.lit(0.95).alias("face_confidence")
    )
    with FeatureStore() as store:
        store.put({"a": PIXELS.to_bytes()}, pixels_module.ANALYSER, pixels_module.FINGERPRINT)
        for minimum, kept in ((quality, 1), (np.nextafter(quality, 1), 0)):
            assert len(score_quality(images, store, minimum=minimum).accepted) == kept


def test_a_ceiling_at_the_limit_is_worth_a_look_for_faces(one_image):
    ceiling = float(quality_ceiling(300.0, 75.0))
    for minimum, kept in ((ceiling, 1), (np.nextafter(ceiling, 1), 0)):
        assert (
            len(reject_hopeless(one_image, [PIXELS], QualityThresholds(), minimum).accepted) == kept
        )


def test_half_of_three_vectors_are_two():
    directions = np.radians([0.0, 10.0, 90.0])
    vectors = np.stack([np.cos(directions), np.sin(directions)], axis=1).astype(np.float32)
    middle = np.radians(5.0)
    np.testing.assert_allclose(
        robust_centroid(vectors), [np.cos(middle), np.sin(middle)], atol=1e-6
    )


def test_width_goes_before_height():
    measured = PixelMeasurement.of(np.zeros((30, 50, 3), np.uint8))
    assert (measured.width, measured.height) == (50, 30)


@pytest.mark.parametrize("turned", [False, True])
def test_of_an_image_too_slim_the_middle_is_seen(turned):
    image = np.arange(4 * 100 * 3, dtype=np.uint8).reshape(4, 100, 3)
    middle = image[:, 34:66]  # eight times the height
    if turned:
        image, middle = image.swapaxes(0, 1), middle.swapaxes(0, 1)
    assert np.array_equal(_not_too_slim(image), middle)


@pytest.mark.parametrize("lost", [1, 4, 11])
def test_a_png_without_the_whole_of_its_last_chunk_is_truncated(lost):
    data = png_bytes(drawing(1))
    assert decode(data)[0] == ""
    assert decode(data[:-lost]) == ("the file is truncated", None)


def test_names_of_a_models_files_are_part_of_what_it_is(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"one")
    before = folder_fingerprint(tmp_path)
    (tmp_path / "a.onnx").rename(tmp_path / "b.onnx")
    assert folder_fingerprint(tmp_path) != before


def test_the_seed_of_the_clusters_is_the_one_given():
    vectors = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    seeds = [kmeans_labels(vectors, 8, seed).tolist() for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]
