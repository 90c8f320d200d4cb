"""Quality: the seed-document formula, typed in a second time from its text."""

import itertools
from functools import lru_cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.analysis import pixels
from character_curator.analysis.decoding import UnreadableImageError
from character_curator.analysis.face_validation import FaceAnalyser, validate_faces
from character_curator.analysis.pixels import PixelMeasurement
from character_curator.analysis.quality import (
    SEED_DOCUMENT,
    QualityAssessment,
    QualityThresholds,
    Ramp,
    quality_ceiling,
    quality_scores,
    reject_hopeless,
    score_quality,
)
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet, MissingColumnError
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)


def published_sharpness(sharpness):
    if sharpness < 100:
        return 0.0
    if sharpness < 200:
        return (sharpness - 100) / 100 * 0.4
    if sharpness < 400:
        return 0.4 + (sharpness - 200) / 200 * 0.4
    return min(0.8 + (sharpness - 400) / 200 * 0.2, 1.0)


def published_contrast(contrast):
    if contrast < 20:
        return 0.0
    if contrast < 50:
        return (contrast - 20) / 30 * 0.4
    if contrast < 100:
        return 0.4 + (contrast - 50) / 50 * 0.6
    return min(1.0, 1.0 + (contrast - 100) / 100 * 0.1)


def published_confidence(face_confidence):
    if face_confidence < 0.85:
        return 0.0
    if face_confidence < 0.90:
        return (face_confidence - 0.85) / 0.05 * 0.4
    if face_confidence < 0.95:
        return 0.4 + (face_confidence - 0.90) / 0.05 * 0.4
    return min(0.8 + (face_confidence - 0.95) / 0.05 * 0.2, 1.0)


def published(sharpness, contrast, faces, confidence):
    certain = published_confidence(confidence) if faces == 1 else 0.0
    return 0.5 * published_sharpness(sharpness) + 0.3 * published_contrast(contrast) + 0.2 * certain


EDGES = {
    "sharpness": (published_sharpness, "sharpness", [100, 200, 400, 600], 0),
    "contrast": (published_contrast, "contrast", [20, 50, 100, 200], 1),
    "confidence": (published_confidence, "confidence", [0.85, 0.90, 0.95, 1.0], 3),
}


@pytest.mark.parametrize("component", EDGES)
def test_every_edge_and_every_branch(component):
    reference, name, edges, position = EDGES[component]
    values = [0.0, *(edges[0] * share for share in (0.5, 0.99))]
    for edge in edges:
        values += [np.nextafter(edge, -np.inf), edge, np.nextafter(edge, np.inf)]
    values += [(a + b) / 2 for a, b in itertools.pairwise(edges)] + [edges[-1] * 3]
    arguments = [np.full(len(values), 300.0), np.full(len(values), 70.0),
                 np.ones(len(values), int), np.full(len(values), 0.93)]  # fmt: skip
    arguments[position] = np.array(values)
    scores = quality_scores(*arguments)
    np.testing.assert_allclose(
        getattr(scores, name), [reference(value) for value in values], rtol=0, atol=1e-9
    )
    expected = [published(*row) for row in zip(*arguments, strict=True)]
    np.testing.assert_allclose(scores.quality, expected, rtol=0, atol=1e-9)


@given(
    st.lists(
        st.tuples(st.floats(0, 5000), st.floats(0, 128), st.integers(0, 4), st.floats(0, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_any_measurement_scores_as_published(rows):
    scores = quality_scores(*np.array(rows).T)
    np.testing.assert_allclose(scores.quality, [published(*row) for row in rows], rtol=0, atol=1e-9)
    ceiling = quality_ceiling(*np.array(rows).T[:2])
    assert (ceiling >= scores.quality - 1e-12).all()


def test_thresholds_are_parameters():
    softer = QualityThresholds(sharpness=Ramp(0, 50, 100, last_span=100, last_rise=0.2))
    assert quality_scores(60, 70, 1, 0.9).sharpness == 0
    assert quality_scores(60, 70, 1, 0.9, softer).sharpness == pytest.approx(0.48)
    with pytest.raises(AttributeError):
        softer.sharpness_weight = 1.0


drawn = lru_cache(maxsize=None)(lambda draw, number: draw(number))


def degraded(number):
    """Portraits and places, sharp to blurred, rich to flat: every branch of the formula."""
    rng = np.random.default_rng(number)
    draw = (portrait, portrait, group, empty_place)[number % 4 if number % 3 == 0 else 0]
    image = drawn(draw, number // 8)  # drawing costs more than all that is tested
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.05, 2.2))
    gain = rng.choice([0.15, 0.5, 1.0, 1.0, 1.6, 6.0])
    if gain == 6.0:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    image = (image.astype(float) - np.median(image)) * gain + np.median(image)
    if number % 5 == 0:
        image += rng.normal(0, rng.uniform(0, 60), image.shape)
    return image.clip(0, 255).astype(np.uint8)


@needs_miniature_faces
def test_200_files_score_as_published(tmp_path):
    from insightface.app import FaceAnalysis

    analyser = FaceAnalyser("miniature", det_size=128)
    assessment = QualityAssessment(analyser=analyser)
    detector = FaceAnalysis(
        name=str(analyser.folder), allowed_modules=["detection"],
        providers=["CPUExecutionProvider"],
    )  # fmt: skip
    detector.prepare(ctx_id=-1, det_size=(128, 128))
    branches = {"sharpness": set(), "contrast": set(), "faces": set()}
    for number in range(204):
        path = tmp_path / f"{number}.{'jpg' if number % 6 == 1 else 'png'}"
        assert cv2.imwrite(str(path), degraded(number))
        image = cv2.imread(str(path))
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        sharpness, contrast = cv2.Laplacian(gray, cv2.CV_64F).var(), gray.std()
        faces = detector.get(image)
        confidence = float(faces[0].det_score) if faces else 0.0
        found = assessment.score_quality(str(path))
        expected = {
            "quality": published(sharpness, contrast, len(faces), confidence),
            "sharpness": published_sharpness(sharpness),
            "contrast": published_contrast(contrast),
            "confidence": published_confidence(confidence) if len(faces) == 1 else 0.0,
            "raw_sharpness": sharpness,
            "raw_contrast": contrast,
            "face_detected": len(faces) == 1,
        }
        assert found == pytest.approx(expected, rel=0, abs=1e-9)
        assert list(found) == list(expected)
        branches["sharpness"].add(int(np.searchsorted([100, 200, 400], sharpness, "right")))
        branches["contrast"].add(int(np.searchsorted([20, 50, 100], contrast, "right")))
        branches["faces"].add(min(len(faces), 2))
    assert branches == {"sharpness": {0, 1, 2, 3}, "contrast": {0, 1, 2, 3}, "faces": {0, 1, 2}}


@needs_miniature_faces
def test_methods_of_the_published_class(tmp_path):
    write_images(tmp_path, {"a.png": portrait(1)})
    path = str(tmp_path / "a.png")
    assessment = QualityAssessment("miniature", det_size=None)
    gray = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY)
    assert assessment.calculate_sharpness(path) == cv2.Laplacian(gray, cv2.CV_64F).var()
    assert assessment.calculate_contrast(path) == gray.std()
    (face,) = assessment.detect_faces(path)
    assert face.det_score > 0.85
    assert face.bbox.shape == (4,)
    assert face.kps.shape == (5, 2)
    with pytest.raises(UnreadableImageError):
        assessment.score_quality(tmp_path / "absent.png")


@needs_miniature_faces
def test_the_stage_scores_the_table(tmp_path):
    blurred = cv2.GaussianBlur(portrait(2), (0, 0), 3)
    write_images(
        tmp_path, {"a.png": portrait(1), "b.png": blurred, "c.png": empty_place(), "d.png": group()}
    )
    (tmp_path / "e.png").write_bytes(b"")
    analyser = FaceAnalyser("miniature")
    images = ImageSet.from_folder(tmp_path)
    with FeatureStore() as store:
        with pytest.raises(MissingColumnError):
            score_quality(images, store)
        images = validate_faces(images, analyser, store)
        before = images.table.clone()
        scored = score_quality(images, store, minimum=0.6)
        assert images.table.equals(before)
        assert store.computed["pixels"] == 4
    assessment = QualityAssessment(analyser=analyser)
    for row in scored.table.head(4).iter_rows(named=True):
        expected = assessment.score_quality(tmp_path / row["path"])
        for column, key in [("quality", "quality"), ("sharpness_score", "sharpness"),
                            ("contrast_score", "contrast"), ("confidence_score", "confidence"),
                            ("raw_sharpness", "raw_sharpness"),
                            ("raw_contrast", "raw_contrast")]:  # fmt: skip
            assert row[column] == pytest.approx(expected[key], rel=0, abs=1e-12)
    assert scored.table["rejection"].to_list() == [
        None, "low_quality", "no_face", "several_faces", "unreadable",
    ]  # fmt: skip
    assert "below 0.6" in scored.table["rejection_detail"][1]
    assert scored.table["quality"][4] is None


def test_a_large_image_is_measured_as_a_small_one_is(monkeypatch):
    rng = np.random.default_rng(3)
    image = cv2.GaussianBlur(rng.integers(0, 256, (300, 500, 3), np.uint8), (0, 0), 1)
    image[:40] = rng.choice([0, 255], (40, 500, 1))  # the Laplacian's extremes
    plain = PixelMeasurement.of(image)
    monkeypatch.setattr(pixels, "_LARGE", 1000)
    large = PixelMeasurement.of(image)
    assert (large.width, large.height) == (500, 300)
    assert large.sharpness == pytest.approx(plain.sharpness, rel=1e-12)
    assert large.contrast == pytest.approx(plain.contrast, rel=1e-12)
    assert plain.sharpness > 5_000


def test_a_disturbed_copy_is_judged_by_what_was_disturbed():
    """Sharpness alone decides: image a passes and b fails, and copies of any sharpness follow."""
    rows = [
        {"path": name, "hash": name, "face_count": 1, "face_confidence": 0.99,
         "disturbance": "blur" if of else None, "disturbance_source": of or None}
        for name, of in (("a", ""), ("b", ""), ("a1", "a"), ("b1", "b"), ("c1", "c"))
    ]  # fmt: skip
    sharp = {"a": 600.0, "b": 50.0, "a1": 50.0, "b1": 600.0, "c1": 50.0}
    measured = [PixelMeasurement(sharp[row["path"]], 90.0, 64, 64) for row in rows]
    known = {row["hash"]: one.to_bytes() for row, one in zip(rows, measured, strict=True)}
    images = ImageSet.from_rows(rows, "nowhere")
    with FeatureStore() as store:
        store.put(known, pixels.ANALYSER, pixels.FINGERPRINT)
        found = score_quality(images, store, minimum=0.74)
    assert found.table["rejection"].to_list() == [None, "low_quality", None, "low_quality", None]
    assert "was disturbed" in found.table["rejection_detail"][3]
    hopeless = reject_hopeless(images, measured, SEED_DOCUMENT, 0.74)
    assert hopeless.table["rejection"].to_list() == [None, "low_quality", None, "low_quality", None]
