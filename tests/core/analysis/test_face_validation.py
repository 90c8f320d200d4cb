"""Faces: what insightface finds, and why images are turned away."""

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_curator.analysis.face_packs import find_pack
from character_curator.analysis.face_validation import (
    FaceAnalyser,
    FacePackError,
    Faces,
    FaceThresholds,
    ReferenceFaceError,
    validate_faces,
)
from character_curator.analysis.identities import robust_centroid
from character_curator.analysis.insightface_pack import InsightfacePack, aligned
from character_curator.analysis.poses import framing, pose, yaw
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from miniature.identity import sample_identity
from miniature.portrait import render
from miniature.scene import sample_scene
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)


def test_alignment_is_insightfaces():
    from insightface.utils import face_align

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    for size in (112, 224, 128):
        points = np.array([[120, 80], [170, 85], [140, 110], [125, 140], [165, 143]], float)
        points = (points + rng.normal(0, 6, (5, 2))).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            expected = face_align.norm_crop(image, points, size)
        assert np.abs(aligned(image, points, size).astype(int) - expected).max() <= 1


FRONTAL = np.array([[-30, -30], [30, -30], [0, 0], [-25, 35], [25, 35]], float)


def turned(degrees, depth=0.6):
    """Landmarks of a head turned to the right of the image; the nose stands out."""
    angle, height = np.radians(degrees), np.array([0, 0, depth * 28, 0, 0])
    x = FRONTAL[:, 0] * np.cos(angle) + height * np.sin(angle)
    return np.stack([x, FRONTAL[:, 1]], axis=1)


@given(st.floats(-50, 50), st.floats(-40, 40), st.floats(0.2, 9), st.floats(-99, 99))
def test_yaw_ignores_tilt_scale_and_place(degrees, tilt, scale, shift):
    angle = np.radians(tilt)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = turned(degrees) @ rotation.T * scale + shift
    assert yaw(moved) == pytest.approx(yaw(turned(degrees)), abs=1e-6)
    assert yaw(moved) == pytest.approx(0.6 * 28 / 27.5 * np.tan(np.radians(degrees)), abs=0.02)


def test_yaw_grows_to_a_full_profile_and_has_a_side():
    turns = [yaw(turned(degrees)) for degrees in range(-90, 91, 10)]
    assert turns == sorted(turns)
    assert turns[0] == -1
    assert turns[-1] == 1
    assert yaw(turned(0)) == pytest.approx(0)
    assert np.isnan(yaw(np.full((5, 2), np.nan)))
    assert np.isnan(yaw(np.zeros((5, 2))))


@pytest.mark.parametrize(
    ("turn", "name"),
    [(0.0, "frontal"), (-0.12, "frontal"), (0.13, "three-quarter"), (-0.39, "three-quarter"),
     (0.4, "profile"), (-1.0, "profile")],
)  # fmt: skip
def test_pose_limits(turn, name):
    assert pose(turn) == name


@pytest.mark.parametrize(
    ("share", "name"),
    [(0.4, "close-up"), (0.22, "close-up"), (0.2199, "bust"), (0.135, "bust"),
     (0.1349, "half body"), (0.02, "half body"), (0.0199, "full body"), (0.0, "full body")],
)  # fmt: skip
def test_framing_limits(share, name):
    assert framing(share) == name


@needs_miniature_faces
def test_pose_and_framing_of_drawn_portraits():
    rng = np.random.default_rng(7)
    analyser = FaceAnalyser("miniature")
    right = {"pose": [], "framing": [], "exact framing": []}
    for _ in range(120):
        scene = sample_scene(rng)
        drawn = render(sample_identity(rng), scene)
        faces = analyser.detect(np.ascontiguousarray(drawn.image[..., ::-1]))
        # The exact landmarks are named without a mistake.
        assert pose(yaw(drawn.landmarks)) == scene.pose
        left, top, far, low = drawn.box
        exact = framing(float((far - left) * (low - top)) / 128**2)
        right["exact framing"].append(exact == scene.framing)
        if len(faces) == 1:
            box = faces.boxes[0]
            share = (box[2] - box[0]) * (box[3] - box[1]) / 128**2
            right["pose"].append(pose(yaw(faces.landmarks[0])) == scene.pose)
            right["framing"].append(framing(float(share)) == scene.framing)
    assert len(right["pose"]) >= 114
    assert np.mean(right["pose"]) >= 0.7
    assert np.mean(right["framing"]) >= 0.9
    assert np.mean(right["exact framing"]) >= 0.95


def test_faces_survive_packing():
    rng = np.random.default_rng(0)
    faces = Faces(*(rng.random(s).astype(np.float32) for s in [(3, 4), (3,), (3, 5, 2)]))
    again = Faces.from_bytes(faces.to_bytes())
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(faces, name))
    assert len(Faces.none()) == 0
    assert Faces.none().landmarks.shape == (0, 5, 2)


@needs_miniature_faces
@pytest.mark.parametrize("det_size", [128, 320])
def test_detection_and_identity_are_insightfaces(det_size):
    from insightface.app import FaceAnalysis

    reference = FaceAnalysis(name=str(FACE_PACK_PATH), providers=["CPUExecutionProvider"])
    reference.prepare(ctx_id=-1, det_size=(det_size, det_size))
    analyser = FaceAnalyser("miniature", det_size)
    images = [portrait(1), group(2), empty_place(3), cv2.resize(portrait(4), (230, 310))]
    for image in images:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            expected = reference.get(image)
        found = analyser.detect(image)
        assert len(found) == len(expected)
        for position, face in enumerate(expected):
            np.testing.assert_allclose(found.boxes[position], face.bbox, atol=1e-3)
            np.testing.assert_allclose(found.landmarks[position], face.kps, atol=1e-3)
            assert found.scores[position] == pytest.approx(face.det_score)
            crop = analyser.crop(image, found.landmarks[position])
            (vector,) = analyser.identify([crop])
            assert vector @ face.normed_embedding > 0.999


@needs_miniature_faces
def test_batches_do_not_change_identities():
    analyser = FaceAnalyser("miniature")
    crops = [analyser.crop(p, analyser.detect(p).landmarks[0]) for p in map(portrait, range(5))]
    together = analyser.identify(crops)
    alone = np.concatenate([analyser.identify([crop]) for crop in crops])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@needs_miniature_faces
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 1, 3), (7, 5, 3)])
def test_odd_images_have_no_face(shape):
    assert len(FaceAnalyser("miniature").detect(np.full(shape, 128, np.uint8))) == 0


@pytest.mark.parametrize(
    ("longest", "edge"), [(1, 128), (128, 128), (129, 192), (500, 640), (768, 640), (9000, 640)]
)
def test_images_are_not_blown_up(longest, edge):
    assert FaceAnalyser("miniature")._edge(longest) == edge
    assert FaceAnalyser("miniature", 320)._edge(longest) == 320


@pytest.fixture
def folder(tmp_path):
    images = {
        "a good.png": portrait(0),
        "b empty.png": empty_place(1),
        "c group.png": group(2),
        "d small.png": cv2.copyMakeBorder(portrait(3), 1100, 0, 1100, 0, cv2.BORDER_REPLICATE),
        "f good.png": portrait(5),
    }
    write_images(tmp_path, images)
    (tmp_path / "e bad.png").write_bytes((tmp_path / "a good.png").read_bytes()[:500])
    return tmp_path


@needs_miniature_faces
def test_reasons_and_columns(folder):
    images = ImageSet.from_folder(folder)
    before = images.table.clone()
    with FeatureStore() as store:
        found = validate_faces(images, FaceAnalyser("miniature", 640), store,
                               FaceThresholds(share=0.02, confidence=0.5))  # fmt: skip
        # The damaged file is found out when the folder is listed.
        assert store.computed == {"pixels": 5, "faces": 5, "identity": 2}
    assert images.table.equals(before)
    table = found.table
    assert table["rejection"].to_list() == [
        None, "no_face", "several_faces", table["rejection"][3], "unreadable", None,
    ]  # fmt: skip
    assert table["rejection"][3] in {"face_too_small", "no_face"}
    assert table["face_count"].to_list()[:3] == [1, 0, 2]
    assert table["face_count"][4] is None
    assert all(table.filter(pl.col("rejection").is_not_null())["rejection_detail"].str.len_chars())
    row = table.row(0, named=True)
    assert row["framing"] == "close-up"
    assert row["pose"] == "frontal"
    assert len(row["face_box"]) == 4
    assert len(row["face_landmarks"]) == 10
    assert -1 <= row["identity_similarity"] <= 1
    assert row["identity_reference"] == "set"
    assert table["identity"].is_null().to_list() == [False, True, True, True, True, False]


@needs_miniature_faces
@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"confidence": 1.01}, "low_confidence"), ({"share": 0.9}, "face_too_small"),
     ({"side": 500.0}, "face_too_small"), ({"identity": 1.01}, "identity_mismatch"),
     # The first that applies, in the documented order.
     ({"confidence": 1.01, "share": 0.9}, "low_confidence")],
)  # fmt: skip
def test_each_threshold_has_its_reason_and_costs_nothing_to_move(tmp_path, changes, reason):
    write_images(tmp_path, {"a.png": portrait(0), "b.png": portrait(1)})
    images, analyser = ImageSet.from_folder(tmp_path), FaceAnalyser("miniature")
    with FeatureStore() as store:
        accepted = validate_faces(images, analyser, store)
        assert accepted.table["rejection"].null_count() == 2
        computed = dict(store.computed)
        for path in images.paths():
            path.unlink()  # nothing is read a second time
        strict = validate_faces(images, analyser, store, replace(FaceThresholds(), **changes))
        assert dict(store.computed) == computed
    assert strict.table["rejection"].to_list() == [reason, reason]


@needs_miniature_faces
def test_strangers_differ_from_the_references(tmp_path):
    same = {f"same {i}.png": portrait(i, person=1) for i in range(6)}
    others = {f"stranger {i}.png": portrait(i, person=20 + i) for i in range(6)}
    write_images(tmp_path / "set", {**same, **others})
    write_images(tmp_path / "reference", {f"{i}.png": portrait(50 + i, 1) for i in range(2)})
    references = sorted((tmp_path / "reference").iterdir())
    images, analyser = ImageSet.from_folder(tmp_path / "set"), FaceAnalyser("miniature")
    with FeatureStore() as store:
        found = validate_faces(images, analyser, store, references=references)
        assert store.computed["identity"] == 14
        again = validate_faces(images, analyser, store, references=references)
        assert store.computed["identity"] == 14
        assert found.table.equals(again.table)
    similarity = found.table["identity_similarity"].to_numpy()
    assert similarity[:6].min() > similarity[6:].max() - 0.2
    assert similarity[:6].mean() > similarity[6:].mean() + 0.2
    assert set(found.table["identity_reference"]) == {"references"}


@needs_miniature_faces
def test_every_subject_has_its_own_centre(tmp_path):
    images = {f"{person}{i}.png": portrait(i, person=ord(person)) for person in "ab"
                for i in range(4)}  # fmt: skip
    write_images(tmp_path, images)
    images = ImageSet.from_folder(tmp_path)
    images = images.with_columns(pl.col("path").str.slice(0, 1).alias("subject"))
    with FeatureStore() as store:
        found = validate_faces(images, FaceAnalyser("miniature"), store)
    vectors = found.embeddings("identity")
    for rows in (slice(0, 4), slice(4, 8)):
        lengths = np.linalg.norm(vectors[rows].astype(np.float64), axis=1)
        expected = vectors[rows] @ robust_centroid(vectors[rows]) / lengths
        np.testing.assert_allclose(
            found.table["identity_similarity"].to_numpy()[rows], expected, atol=1e-6
        )


@needs_miniature_faces
def test_references_must_show_one_face(tmp_path):
    write_images(tmp_path, {"a.png": portrait(0), "group.png": group(1)})
    images = ImageSet.from_folder(tmp_path)
    with FeatureStore() as store, pytest.raises(ReferenceFaceError, match="2 faces"):
        validate_faces(
            images, FaceAnalyser("miniature"), store, references=[tmp_path / "group.png"]
        )


@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0, 0.4))
def test_the_centre_is_the_majoritys(seed, count, strangers):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=32)
    centre /= np.linalg.norm(centre)
    odd = int(strangers * count)
    mine = centre + 0.05 * rng.normal(size=(count - odd, 32))
    theirs = rng.normal(size=32) + 0.3 * rng.normal(size=(odd, 32))
    vectors = rng.permutation(np.concatenate([mine, theirs])).astype(np.float32)
    found = robust_centroid(vectors)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found @ centre > 0.9


@needs_miniature_faces
def test_threads_of_both_models_sleep_while_they_wait():
    models = InsightfacePack("miniature").analysis.models
    assert set(models) == {"detection", "recognition"}
    for model in models.values():
        options = model.session.get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_missing_pack_says_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # no network
    with pytest.raises(FacePackError, match="non-commercial research") as caught:
        find_pack("buffalo_l")
    assert str(Path(".insightface") / "models" / "buffalo_l") in str(caught.value)


def test_packs_may_be_folders(tmp_path):
    with pytest.raises(FacePackError, match="no folder"):
        find_pack(tmp_path / "absent" / "pack")
    with pytest.raises(FacePackError, match="no ONNX file"):
        find_pack(tmp_path)
    inner = tmp_path / "pack" / "pack"
    inner.mkdir(parents=True)
    (inner / "model.onnx").write_bytes(b"damaged")
    assert find_pack(tmp_path / "pack") == inner
    with pytest.raises(FacePackError, match="Unpack it again"):
        FaceAnalyser(inner).detect(np.zeros((64, 64, 3), np.uint8))


def test_fingerprints_follow_the_models(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"one")
    first = FaceAnalyser(tmp_path).detection_fingerprint
    assert FaceAnalyser(tmp_path).detection_fingerprint == first
    assert FaceAnalyser(tmp_path, 640).detection_fingerprint != first
    (tmp_path / "a.onnx").write_bytes(b"other")
    assert FaceAnalyser(tmp_path).detection_fingerprint != first


@pytest.mark.parametrize("size", [0, -32, 100, 31])
def test_detection_sizes_are_multiples_of_32(size):
    with pytest.raises(FacePackError, match="multiple of 32"):
        FaceAnalyser("miniature", size)
