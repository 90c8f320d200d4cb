"""Anime faces: small networks in the layout of DeepGHS' detector and of CCIP."""

import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from character_curator.analysis.anime_faces import AnimeFaces
from character_curator.analysis.crop_boxes import head_of
from character_curator.analysis.cropping import CropWish, crop_images
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_backends import calibration_of, installed, open_backend
from character_curator.analysis.face_packs import FacePackError
from character_curator.analysis.face_validation import FaceThresholds, validate_faces
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.reading.crops import crop_record
from tests.support.tiny_analysis import write_images

CELL, SIDE = 32, 64
HAIR = {"red": (40, 40, 240), "green": (40, 240, 40)}


def save(path, nodes, constants, entry, result):
    values = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*entry)],
        [helper.make_tensor_value_info(*result)],
        values,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, str(path))


def write_detector(path, channels="ReduceMin"):
    """A white cell of 32 pixels is what is looked for, with a box of 64; or any bright one."""
    node = helper.make_node
    save(
        path,
        [
            node(channels, ["images"], ["white"], axes=[1], keepdims=1),
            node(
                "AveragePool", ["white"], ["mean"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
            ),
            node("Mul", ["mean", "certain"], ["score"]),
            node("Mul", ["mean", "zero"], ["nothing"]),
            node("Add", ["nothing", "one"], ["ones"]),
            node("CumSum", ["ones", "across"], ["column"]),
            node("CumSum", ["ones", "down"], ["row"]),
            node("Sub", ["column", "half"], ["x"]),
            node("Sub", ["row", "half"], ["y"]),
            node("Mul", ["x", "cell"], ["cx"]),
            node("Mul", ["y", "cell"], ["cy"]),
            node("Mul", ["ones", "side"], ["size"]),
            node("Concat", ["cx", "cy", "size", "size", "score"], ["cells"], axis=1),
            node("Reshape", ["cells", "shape"], ["output0"]),
        ],
        {
            "zero": np.float32(0), "one": np.float32(1), "half": np.float32(0.5),
            "certain": np.float32(0.8), "cell": np.float32(CELL), "side": np.float32(SIDE),
            "across": np.int64(3), "down": np.int64(2), "shape": np.array([1, 5, -1], np.int64),
        },
        ("images", TensorProto.FLOAT, [1, 3, "height", "width"]),
        ("output0", TensorProto.FLOAT, [1, 5, "anchors"]),
    )  # fmt: skip


def write_pack(folder):
    """A white cell is a face; what hair shows around it says whose."""
    node = helper.make_node
    write_detector(folder / "face_detect_v1.4_s" / "model.onnx")
    place = folder / "ccip-caformer-24-randaug-pruned"
    save(
        place / "model_feat.onnx",
        [node("GlobalAveragePool", ["input"], ["mean"]), node("Flatten", ["mean"], ["output"])],
        {},
        ("input", TensorProto.FLOAT, ["batch", 3, 384, 384]),
        ("output", TensorProto.FLOAT, ["batch", 3]),
    )
    save(
        place / "model_metrics.onnx",
        [
            node("ReduceL2", ["input"], ["length"], axes=[1], keepdims=1),
            node("Div", ["input", "length"], ["unit"]),
            node("Transpose", ["unit"], ["turned"], perm=[1, 0]),
            node("MatMul", ["unit", "turned"], ["cosine"]),
            node("Sub", ["one", "cosine"], ["apart"]),
            node("Mul", ["apart", "half"], ["output"]),
        ],
        {"one": np.float32(1), "half": np.float32(0.5)},
        ("input", TensorProto.FLOAT, ["batch", 3]),
        ("output", TensorProto.FLOAT, ["batch", "batch2"]),
    )
    (place / "metrics.json").write_text(json.dumps({"threshold": 0.1785}))
    return folder


def portrait(hair, width=480, height=640, at=(224, 160)):
    """A white face, hair around it, and a grey ground."""
    image = np.full((height, width, 3), 60, np.uint8)
    x, y = at
    cv2.rectangle(image, (x - 60, y - 60), (x + 92, y + 260), HAIR[hair], -1)
    rng = np.random.default_rng(0)
    image = (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)
    image[y : y + CELL, x : x + CELL] = 255
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("anime"))


@pytest.fixture(scope="module")
def analyser(folder):
    return FaceAnalyser(folder)


def test_a_face_is_found_where_it_is_at_any_size(folder):
    backend = open_backend(folder)
    assert isinstance(backend, AnimeFaces)
    found = backend.detect(portrait("red"), 640)
    assert len(found) == 1
    assert found.scores[0] == pytest.approx(0.8, abs=0.01)
    assert found.boxes[0] == pytest.approx([208, 144, 272, 208], abs=2)
    assert np.isnan(found.landmarks).all()
    twice = cv2.resize(portrait("red"), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    assert backend.detect(twice, 640).boxes[0] == pytest.approx([416, 288, 544, 416], abs=4)
    assert len(backend.detect(np.full((100, 80, 3), 60, np.uint8), 640)) == 0


def test_a_head_without_a_face_counts_where_heads_are_looked_for(tmp_path):
    image = np.full((640, 480, 3), 60, np.uint8)
    image[160:192, 224:256] = 255  # a head with a face
    image[480:512, 320:352] = (255, 0, 0)  # one from behind
    pack = write_pack(tmp_path / "pack")
    plain = open_backend(pack)
    assert len(plain.detect(image, 640)) == 1
    before = plain.fingerprint
    write_detector(pack / "head_detect_v2.0_s" / "model.onnx", "ReduceMax")
    backend = open_backend(pack)
    assert backend.fingerprint != before
    found = backend.detect(image, 640)
    assert len(found) == 2
    [face] = [box for box in found.boxes if box[1] < 320]
    assert face == pytest.approx((208, 144, 272, 208), abs=2)
    [behind] = [box for box in found.boxes if box[1] > 320]
    assert head_of(behind).box == pytest.approx((304, 464, 368, 528), abs=2)
    assert len(backend.detect(image[:320], 640)) == 1


def test_the_threshold_is_that_of_ccip_as_a_cosine(folder, analyser):
    # Its difference is here (1 - cosine) / 2.
    assert analyser.calibration.identity == pytest.approx(1 - 2 * 0.1785, abs=1e-3)
    assert calibration_of(folder, analyser.backend).photographs
    assert 0.9 < float(analyser.calibration.confidence([0.75])[0]) < 1


def test_characters_are_told_apart_and_poses_are_not_guessed(analyser, tmp_path):
    shown = {f"red{i}.png": portrait("red", at=(160 + 32 * i, 160)) for i in range(3)}
    write_images(tmp_path / "in", {**shown, "green.png": portrait("green")})
    write_images(tmp_path, {"reference.png": portrait("red", at=(192, 192))})
    images = ImageSet.from_folder(tmp_path / "in")
    with FeatureStore() as store:
        found = validate_faces(
            images, analyser, store, FaceThresholds(share=0), [tmp_path / "reference.png"]
        )
        made = crop_images(
            found.accepted, analyser, store, tmp_path / "crops", CropWish("half"),
            thresholds=FaceThresholds(),
        )  # fmt: skip
    assert found.rejections() == {"identity_mismatch": 1}
    table = found.table
    assert table["pose"].to_list() == table["yaw"].to_list() == [None] * 4
    assert table["face_landmarks"].to_list() == [None] * 4
    assert table["framing"].drop_nulls().len() == 4
    assert all(crop_record(path) is not None for path in made.paths())


def test_what_is_missing_is_said_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert installed("anime") is False
    with pytest.raises(FacePackError, match="hf download deepghs/anime_face_detection"):
        FaceAnalyser("anime").detect(portrait("red"))
    pack = write_pack(tmp_path / ".insightface" / "models" / "anime")
    assert installed("anime") is True
    assert len(FaceAnalyser("anime").detect(portrait("red"))) == 1
    for part in ("model_metrics.onnx", "model_feat.onnx"):
        (pack / "ccip-caformer-24-randaug-pruned" / part).unlink()
        assert FaceAnalyser("anime").calibration.identity is None
    alone = FaceAnalyser("anime")
    assert not alone.has_recogniser
    with pytest.raises(FacePackError, match="has no CCIP"):
        alone.identify([portrait("red")])
    (pack / "face_detect_v1.4_s" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(FacePackError, match="cannot be loaded"):
        FaceAnalyser("anime").detect(portrait("red"))
