"""Text in images: areas that the detector finds and the recogniser can read."""

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from character_curator import pipeline, project
from character_curator.analysis import text_areas
from character_curator.analysis.text_areas import (
    Text,
    TextFinder,
    TextModelError,
    areas_of,
    find_models,
    reject_text,
)
from character_curator.cli import main
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from tests.support.tiny_analysis import write_images


def model(path, nodes, constants, sides):
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *sides])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"] * (2 + len(sides) // 2))
    if path.name.startswith("det"):
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, "h", "w"])
    else:
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", 3])
    values = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [entry], [result], values)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    onnx.save(made, path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Networks in the layout of PP-OCR's: blue is where there may be text, green is what it says.

    A column of much green is one character, of little green another, and half of it none.
    """
    folder = tmp_path_factory.mktemp("ocr")
    node = helper.make_node
    model(
        folder / "det.onnx",
        [
            node("Slice", ["x", "b0", "b1", "axis"], ["blue"]),
            node("Mul", ["blue", "much"], ["steep"]),
            node("Sigmoid", ["steep"], ["y"]),
        ],
        {"b0": [0], "b1": [1], "axis": [1], "much": np.float32(20)},
        ["h", "w"],
    )
    model(
        folder / "rec.onnx",
        [
            node("Slice", ["x", "g0", "g1", "axis"], ["green"]),
            node("ReduceMean", ["green"], ["column"], axes=[1, 2], keepdims=1),
            node("Squeeze", ["column", "axis"], ["flat"]),
            node("Transpose", ["flat"], ["t"], perm=[0, 2, 1]),
            node("Neg", ["t"], ["less"]),
            node("Abs", ["t"], ["some"]),
            node("Sub", ["half", "some"], ["none"]),
            node("Concat", ["none", "t", "less"], ["odds"], axis=2),
            node("Mul", ["odds", "much"], ["steep"]),
            node("Softmax", ["steep"], ["y"], axis=2),
        ],
        {"g0": [1], "g1": [2], "axis": [1], "half": np.float32(0.3), "much": np.float32(20)},
        [48, "w"],
    )
    return folder


def picture(mark=None, *, downwards=False, side=320):
    """A grey square with a blue area: of stripes, which is text, or plain."""
    image = np.full((side, side, 3), (20, 127, 127), np.uint8)
    if mark is not None:
        area = np.full((32, 160, 3), (255, 127, 127), np.uint8)
        if mark == "text":
            area[:, ::16, 1] = 255
            for start in range(0, 160, 16):
                area[:, start : start + 8, 1] = 255
                area[:, start + 8 : start + 16, 1] = 0
        area = area.swapaxes(0, 1) if downwards else area
        image[40 : 40 + area.shape[0], 60 : 60 + area.shape[1]] = area
    return image


def test_only_what_can_be_read_is_text(models):
    finder = TextFinder(models)
    assert finder.find(picture()) == Text(0.0, 0)
    assert finder.find(picture("plain")) == Text(0.0, 0)
    found = finder.find(picture("text"))
    assert found.areas == 1
    # The area grows by 1.6 of its area over its circumference, 21 pixels, on both axes.
    assert found.share == pytest.approx((160 + 42) * (32 + 42) / 320**2, rel=0.1)
    assert finder.find(picture("text", downwards=True)).areas == 1
    large = cv2.resize(picture("text"), (2600, 2600), interpolation=cv2.INTER_NEAREST)
    assert finder.find(large).areas == 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1), (3, 9000)])
def test_a_line_of_pixels_has_no_text(models, shape):
    line = np.resize(np.array([0, 255], np.uint8), (*shape, 3))
    assert TextFinder(models).find(line).areas == 0


def test_the_largest_areas_are_read_and_specks_are_none():
    ink = np.zeros((960, 960), np.float32)
    for number in range(100):
        y, x = 90 * (number // 10) + 20, 90 * (number % 10) + 20
        ink[y : y + 6, x : x + 10 + number // 2] = 1
    ink[5:7, 5:7] = 1
    areas = areas_of(ink)
    assert len(areas) == 64
    assert min(max(size) for _, size, _ in areas) > 10 + 36 // 2
    faint = np.where(ink > 0, 0.35, 0).astype(np.float32)
    assert areas_of(faint) == []


def test_images_of_much_text_are_rejected_and_measured_once(models, tmp_path):
    write_images(tmp_path / "in", {"none.png": picture(), "some.png": picture("text")})
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    images = ImageSet.from_folder(tmp_path / "in")
    finder = TextFinder(models)
    with FeatureStore() as store:
        found = reject_text(images, store, finder, 0.01)
        by_name = {row["path"]: row for row in found.table.iter_rows(named=True)}
        assert by_name["some.png"]["rejection"] == "text"
        assert "text in 1 place takes 1" in by_name["some.png"]["rejection_detail"]
        assert (by_name["none.png"]["rejection"], by_name["none.png"]["text_share"]) == (None, 0)
        assert by_name["broken.png"]["text_share"] is None
        for path in images.paths():
            path.unlink(missing_ok=True)  # what is known is not decoded again
        assert reject_text(images, store, finder, 0.5).rejections().get("text") is None
        asked = project.from_mapping(
            {"source": "in", "blemishes": {"text": 0.01, "text_models": str(models)}}, "p"
        )
        assert pipeline.unblemished(asked, images, store).rejections()["text"] == 1


def test_what_is_missing_is_said_before_anything_is_measured(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(text_areas, "PACKAGES", ("no_such_package",))
    with pytest.raises(TextModelError, match="pip install --no-deps"):
        find_models()
    with pytest.raises(TextModelError, match="no folder with a text detector"):
        find_models(tmp_path)
    write_images(tmp_path / "in", {"a.png": picture()})
    given = ["curate", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--max-text", "0.1"]
    assert main(given) == 2
    assert "rapidocr" in "".join(capfd.readouterr()).replace("\n", " ")


def test_other_models_are_refused(models, tmp_path):
    for kind in ("det", "rec"):
        (tmp_path / f"{kind}.onnx").write_bytes((models / "rec.onnx").read_bytes())
    with pytest.raises(TextModelError, match="no model of PP-OCR"):
        TextFinder(tmp_path).load()
    (tmp_path / "det.onnx").write_bytes(b"nothing")
    with pytest.raises(TextModelError, match="cannot be loaded"):
        TextFinder(tmp_path).load()


def test_the_packages_own_models_read_a_watermark():
    try:
        finder = TextFinder()
    except TextModelError:
        pytest.skip('the models are not here: pip install --no-deps "rapidocr>=3.4,<3.9"')
    y, x = np.mgrid[0:480, 0:640]
    image = np.stack([y // 4, x // 5, (x + y) // 9], axis=2).astype(np.uint8)
    assert finder.find(image).areas == 0
    cv2.putText(image, "SAMPLE", (200, 250), cv2.FONT_HERSHEY_SIMPLEX, 2, (230, 230, 230), 4)
    assert 0.02 < finder.find(image).share < 0.12


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_a_line_of_pixels_is_read(models, size):
    assert TextFinder(models).find(np.full((*size, 3), 127, np.uint8)).share < 0.5
