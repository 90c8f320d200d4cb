"""OpenCV's detector and recogniser, run by OpenCV on small networks of their layout."""

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_backends import YUNET, calibration_of, open_backend
from character_curator.analysis.face_packs import FacePackError
from character_curator.analysis.faces import Faces
from character_curator.analysis.insightface_pack import InsightfacePack
from character_curator.analysis.opencv_faces import OpenCVFaces

STRIDES = (8, 16, 32)
SIDE = 5  # cells of a found face's box
POINTS = np.array([[-1, -1], [1, -1], [0, 0], [-0.8, 1], [0.8, 1]], np.float32)


def _head(stride, name, channels, weight, bias):
    """A convolution over cells, as rows of one cell each."""
    kernel = np.full((channels, 3, stride, stride), weight / (3 * stride * stride), np.float32)
    constants = [
        numpy_helper.from_array(kernel, f"{name}_w"),
        numpy_helper.from_array(np.asarray(bias, np.float32), f"{name}_b"),
        numpy_helper.from_array(np.array([1, -1, channels], np.int64), f"{name}_s"),
    ]
    nodes = [
        helper.make_node(
            "Conv", ["input", f"{name}_w", f"{name}_b"], [f"{name}_c"],
            kernel_shape=[stride, stride], strides=[stride, stride],
        ),
        helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [name]),
    ]  # fmt: skip
    return nodes, constants


def _save(path, nodes, constants, size, outputs):
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    onnx.save(model, str(path))


def write_detector(folder, name="face_detection_yunet_small.onnx"):
    """A network of YuNet's layout that calls a bright cell of eight pixels a face."""
    nodes, constants, outputs = [], [], []
    box = [0.5, 0.5, np.log(SIDE), np.log(SIDE)]
    for kind, channels, bias in (
        ("cls", 1, [0.0]), ("obj", 1, [0.0]), ("bbox", 4, box), ("kps", 10, POINTS.ravel() + 0.5),
    ):  # fmt: skip
        for stride in STRIDES:
            seen = 1 / 255 if kind in ("cls", "obj") and stride == 8 else 0.0
            head = _head(stride, f"{kind}_{stride}", channels, seen, bias)
            nodes += head[0]
            constants += head[1]
            outputs.append((f"{kind}_{stride}", [1, (640 // stride) ** 2, channels]))
    _save(folder / name, nodes, constants, 640, outputs)


def write_recogniser(folder, name="face_recognition_sface_small.onnx"):
    """A network of SFace's layout: means over a grid of sixteen cells."""
    nodes, constants = _head(28, "fc1", 3, 0.0, [0.0] * 3)
    kernel = np.zeros((3, 3, 28, 28), np.float32)
    kernel[np.arange(3), np.arange(3)] = 1 / 28**2
    constants[0] = numpy_helper.from_array(kernel, "fc1_w")
    _save(folder / name, nodes, constants, 112, [("fc1", [1, 16, 3])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opencv")
    write_detector(folder)
    write_recogniser(folder)
    return folder


def with_cells(*cells, size=(320, 256)):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for column, row, brightness in cells:
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = brightness
    return image


def test_a_folder_with_yunet_is_opencvs(folder, tmp_path):
    assert isinstance(open_backend(folder), OpenCVFaces)
    assert isinstance(open_backend(str(folder)), OpenCVFaces)
    assert isinstance(open_backend(tmp_path), InsightfacePack)
    backend = open_backend(folder)
    assert calibration_of(folder, backend) == YUNET
    assert YUNET.photographs
    assert YUNET.confidence([0.88, 0.939]) == pytest.approx([0.85, 0.95])


def test_boxes_points_and_scores_are_those_of_the_image(folder):
    found = OpenCVFaces(folder).detect(with_cells((10, 6, 200), (30, 20, 255)), 640)
    assert found.scores == pytest.approx([1.0, 200 / 255], abs=0.01)
    middle = np.array([[30, 20], [10, 6]]) * 8 + 4
    assert found.boxes[:, :2] == pytest.approx(middle - SIDE * 4, abs=1)
    assert found.boxes[:, 2:] == pytest.approx(middle + SIDE * 4, abs=1)
    assert found.landmarks == pytest.approx(middle[:, None] + 8 * POINTS, abs=1)


def test_a_large_image_is_looked_at_in_small_and_found_in_its_own_pixels(folder):
    small = with_cells((10, 6, 255))
    large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    found = OpenCVFaces(folder).detect(large, 320)
    assert len(found) == 1
    assert found.boxes[0, :2] == pytest.approx((np.array([84, 52]) - SIDE * 4) * 3, abs=3)


@pytest.mark.parametrize("size", [(33, 250), (640, 640), (100, 40), (1200, 8)])
def test_images_of_any_shape_and_without_a_face(folder, size):
    assert len(OpenCVFaces(folder).detect(with_cells(size=size), 640)) == 0


def test_identity_is_of_the_face_and_not_of_its_place(folder):
    rng = np.random.default_rng(0)
    face = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (120, 120))
    points = (POINTS * 30 + 60).astype(np.float32)
    here, there = (np.zeros((300, 400, 3), np.uint8) for _ in range(2))
    here[20:140, 30:150] = face
    there[160:280, 200:320] = face
    backend = OpenCVFaces(folder)
    places = ((here, (30, 20)), (there, (200, 160)))
    crops = [backend.crop(image, points + np.float32(place)) for image, place in places]
    assert crops[0].shape == (112, 112, 3)
    vectors = backend.identify(crops)
    assert vectors.shape == (2, 48)
    assert vectors[0] == pytest.approx(vectors[1], abs=0.5)
    assert backend.identify([255 - crops[0]])[0] != pytest.approx(vectors[0], abs=20)


def test_without_sface_nobody_is_identified_and_the_models_are_others(folder, tmp_path):
    write_detector(tmp_path)
    alone = OpenCVFaces(tmp_path)
    assert not alone.has_recogniser
    assert alone.fingerprint != OpenCVFaces(folder).fingerprint
    with pytest.raises(FacePackError, match="sface_2021dec"):
        alone.crop(with_cells(), POINTS)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(FacePackError, match=r"yunet_2023mar\.onnx.*Get the file again"):
        OpenCVFaces(tmp_path).detect(with_cells(), 640)


def test_a_quantised_detector_comes_second(tmp_path):
    write_detector(tmp_path)
    (tmp_path / "face_detection_yunet_small_int8.onnx").write_bytes(b"")
    assert len(OpenCVFaces(tmp_path).detect(with_cells((10, 6, 255)), 640)) == 1


def test_the_stages_take_it_by_its_folder(folder):
    analyser = FaceAnalyser(folder)
    image = with_cells((20, 16, 240))
    found = analyser.detect(image)
    assert len(found) == 1
    vector = analyser.identify([analyser.crop(image, found.landmarks[0])])[0]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


def test_auraface_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(FacePackError, match=r"hf download fal/AuraFace-v1 --local-dir"):
        _ = FaceAnalyser("auraface").folder


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (640, 1), (2, 300), (1, 500), (2000, 1)])
def test_a_line_of_pixels_shows_no_face_however_often_it_is_looked_at(folder, size):
    analyser = FaceAnalyser(folder)
    assert analyser.looks_again
    assert len(analyser.detect(with_cells(size=size))) == 0


def test_a_margin_around_a_strip_takes_no_more_than_its_share_of_memory(folder, monkeypatch):
    """What is seen of a strip of 64 : 1 lies where it is, though it is looked at in small."""
    analyser, seen = FaceAnalyser(folder), []

    def bright(image, edge):
        seen.append(image.size)
        y, x = np.nonzero(image[..., 0] > 127)
        box = [[x.min(), y.min(), x.max() + 1, y.max() + 1]]
        return Faces.by_score(np.array(box, np.float32), np.ones(1), np.zeros((1, 5, 2)))

    monkeypatch.setattr(analyser.backend, "detect", bright)
    strip = np.zeros((320, 20480, 3), np.uint8)
    strip[64:256, 2048:2304] = 255
    found = analyser._with_margin(strip, 640, 0.25)
    assert seen[0] < 3 * 20_000_000
    assert found.boxes[0] == pytest.approx([2048, 64, 2304, 256], abs=8)
    analyser._with_margin(strip[:, :3072], 640, 0.25)
    assert seen[1] == 3 * (3072 + 2 * 768) * (320 + 2 * 768)
