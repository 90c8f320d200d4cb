"""Calibration: what a detector's scores mean, and where that is written down."""

import json

import numpy as np
import pytest

from character_curator.analysis.calibration import (
    CALIBRATION_FILE,
    Calibration,
    CalibrationError,
    curve_of,
)
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_backends import BACKENDS, DLIB, RAW, SCRFD, calibration_of
from character_curator.analysis.face_validation import FaceThresholds
from character_curator.analysis.faces import Faces
from character_curator.miniature import FACE_PACK_PATH
from tests.support.tiny_analysis import needs_miniature_faces


def test_a_curve_says_the_same_of_every_detector():
    rng = np.random.default_rng(0)
    ordinary = rng.beta(6, 2, 4000)
    for least, scale in ((0.0, 1.0), (0.5, 0.4), (-1.0, 4.0)):
        scores = least + scale * ordinary
        confidence = Calibration(curve_of(list(scores), least)).confidence(scores)
        for anchor, share in ((0.85, 0.95), (0.90, 0.75), (0.95, 0.50), (1.0, 0.05)):
            assert np.mean(confidence >= anchor) == pytest.approx(share, abs=0.01)
        assert (np.diff(confidence[np.argsort(scores)]) >= 0).all()


def test_a_calibration_needs_enough_faces():
    with pytest.raises(CalibrationError, match="Only 39 faces"):
        curve_of([0.7] * 39, 0.5)
    assert curve_of([0.7] * 40, 0.5) == ((0.5, 0.5), (0.7, 0.85))


def test_a_calibration_is_kept_with_its_pack(tmp_path):
    assert Calibration.read(tmp_path) is None
    made = Calibration(((0.5, 0.5), (0.7, 0.85)), 0.4, source="twelve people")
    made.write(tmp_path)
    assert Calibration.read(tmp_path) == made
    (tmp_path / "a.onnx").write_bytes(b"other")
    analyser = FaceAnalyser(tmp_path)
    assert analyser.calibration == made
    before = analyser.detection_fingerprint
    Calibration(((0.5, 0.5), (0.8, 0.85)), 0.4).write(tmp_path)
    assert FaceAnalyser(tmp_path).detection_fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"confidence": [[0.5, 0.5], [0.4, 0.9]]},
        {"confidence": 3},
        {"identity": "x"},
    ],
)
def test_a_damaged_calibration_is_named(tmp_path, change):
    path = Calibration(((0.5, 0.5), (0.7, 0.85)), 0.4).write(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CalibrationError, match=CALIBRATION_FILE):
        Calibration.read(tmp_path)


@needs_miniature_faces
def test_the_embedded_pack_is_known_wherever_it_lies(tmp_path):
    for path in FACE_PACK_PATH.glob("*.onnx"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for pack in ("miniature", tmp_path):
        analyser = FaceAnalyser(pack)
        assert analyser.calibration is RAW
        assert not analyser.looks_again
    (tmp_path / "more.onnx").write_bytes(b"another model")
    assert FaceAnalyser(tmp_path).calibration is SCRFD


LINES = [(400, 1), (1, 400), (1, 1), (3, 5000), (5000, 2), (8, 700)]


@needs_miniature_faces
@pytest.mark.parametrize("shape", LINES)
def test_in_a_line_of_pixels_no_look_finds_a_face(shape):
    analyser = FaceAnalyser("miniature")
    analyser.calibration = SCRFD  # that of a pack for photographs, which are looked at again
    assert analyser.looks_again
    looked = []
    found_at = analyser.backend.detect
    analyser.backend.detect = lambda image, edge: (
        looked.append((image, edge)) or found_at(image, edge)
    )
    assert len(analyser.detect(np.full((*shape, 3), 90, np.uint8))) == 0
    # Whatever a pack does with it, scaled down there is at least a pixel of each side.
    assert all(min(i.shape[:2]) * edge >= max(i.shape[:2]) for i, edge in looked)


def test_thresholds_take_what_the_pack_says(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"other")
    Calibration(((0.5, 0.5), (0.7, 0.85)), 0.4).write(tmp_path)
    analyser = FaceAnalyser(tmp_path)
    plain = FaceThresholds().of_pack(analyser, references=False)
    assert (plain.identity, plain.choice) == (None, "reject")
    known = FaceThresholds().of_pack(analyser, references=True)
    assert (known.identity, known.choice) == (0.4, "reference")
    asked = FaceThresholds(identity=0.6, choice="largest").of_pack(analyser, references=True)
    assert (asked.identity, asked.choice) == (0.6, "largest")
    face = Faces(*(np.zeros(s, np.float32) for s in [(1, 4), (1,), (1, 5, 2)]))
    face.scores[0] = 0.7
    assert known.confidence_of(face) == pytest.approx(0.85)
    raw = FaceThresholds(raw=True).of_pack(analyser, references=True)
    assert raw.confidence_of(face) == pytest.approx(0.7)
    embedded = FaceThresholds().of_pack(FaceAnalyser("miniature"), references=True)
    assert (embedded.identity, embedded.choice, embedded.curve) == (None, "reject", ())


def test_dlib_is_known_without_its_packages():
    assert FaceAnalyser("dlib").calibration is DLIB
    assert calibration_of("dlib", FaceAnalyser("dlib").backend) is DLIB
    assert {info.pack for info in BACKENDS} >= {"miniature", "buffalo_l", "dlib", "dlib-cnn"}


@pytest.mark.parametrize(("least", "doubted"), [(None, 0), (-1.0, 0), (0.3, 1), (0.92, 0), (1, 0)])
def test_a_similarity_that_lets_others_pass_is_doubted(least, doubted):
    assert bool(Calibration(identity=0.92).doubt(least)) == doubted
    assert Calibration().doubt(least) == ""
