"""Faces on ComfyUI's wires, in the shapes of its own detectors and of others'."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from tests.support.comfyui.hostile import BOXES
from tests.support.comfyui.pack import core, part

SEG = namedtuple("SEG", ["cropped_image", "cropped_mask", "confidence", "crop_region", "bbox",
                         "label", "control_net_wrapper"], defaults=[None])  # fmt: skip
BATCH = (200, 100)
DICT = {"x": 20, "y": 10, "width": 100, "height": 50, "label": "face", "score": 0.7}
CORNERS = (20, 10, 120, 60)
SHARES = (0.1, 0.1, 0.6, 0.6)


def boxes(wire, sizes=(BATCH,), layout="arcface"):
    found = part("curate.face_wires").faces_of_boxes(wire, BATCH, sizes, layout)
    return [[face.box for face in one] for one in found]


@pytest.mark.parametrize(
    "wire",
    [
        [[DICT]], [DICT], DICT, [[CORNERS]], [CORNERS], [list(CORNERS)], CORNERS,
        np.array([CORNERS]), torch.tensor([[CORNERS]]), [np.array(CORNERS, np.float32)],
        ((100, 200), [SEG(None, None, 0.9, (0, 0, 9, 9), list(CORNERS), "face")]),
        ((100, 200), [SEG(None, None, 0.9, (0, 0, 9, 9), np.array(CORNERS), "face")]),
    ],
)  # fmt: skip
def test_boxes_are_read_whatever_their_shape(wire):
    [[box]] = boxes(wire)
    assert box == pytest.approx(SHARES)


def test_an_image_may_have_several_faces_or_none():
    assert [len(one) for one in boxes([[DICT, DICT], []], (BATCH, BATCH))] == [2, 0]
    assert boxes([], (BATCH,)) == [[]]
    assert boxes([], ()) == []


def test_boxes_of_a_batch_are_placed_in_the_images_it_was_made_of():
    # A square image covers a batch of 2:1 with its middle; a tall one likewise.
    square, tall = boxes([[DICT], [DICT]], ((400, 400), (100, 400)))
    assert square[0] == pytest.approx((0.1, 0.25 + 0.05, 0.6, 0.25 + 0.3))
    assert tall[0] == pytest.approx((0.1, (175 + 5) / 400, 0.6, (175 + 30) / 400))


def mesh():
    points = np.zeros((478, 2))
    points[[33, 133]], points[[362, 263]] = [[40, 40], [60, 40]], [[90, 40], [110, 40]]
    points[1], points[61], points[291] = [75, 60], [55, 80], [95, 80]
    return {"bbox_xyxy": np.array(CORNERS, np.float32), "landmarks_xy": points}


def test_the_face_mesh_gives_the_points_too():
    wire = {"frames": [[mesh()]], "image_size": (100, 200), "connection_sets": {}}
    wires = part("curate.face_wires")
    [[face]] = wires.faces_of_boxes(wire, (7, 7), [BATCH], "arcface")
    assert face.box == pytest.approx(SHARES)
    expected = [(50, 40), (100, 40), (75, 60), (55, 80), (95, 80)]
    assert np.array(face.landmarks) * BATCH == pytest.approx(np.array(expected))
    [[other]] = wires.faces_of_boxes(wire, (7, 7), [BATCH], "dlib")
    assert other.landmarks is None


def test_each_patch_of_a_mask_is_a_face():
    masks = torch.zeros(2, 100, 200)
    masks[0, 10:60, 20:120] = 1
    masks[0, 70:95, 150:180] = 0.8
    masks[0, 5, 5] = 1  # a speck
    found = part("curate.face_wires").faces_of_masks(masks, [BATCH, BATCH])
    assert [len(one) for one in found] == [2, 0]
    assert found[0][0].box == pytest.approx(SHARES)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ("face", "it is a str"), ([["face"]], "'face' is no box|face is no box"),
        ([[(5, 5, 2, 9)]], "has no area"), ([[{"x": 1, "width": 2}]], "has no 'y'"),
    ],
)  # fmt: skip
def test_what_is_no_boxes_is_refused(wire, message):
    with pytest.raises(core("errors").CuratorError, match=message):
        boxes(wire)


def test_boxes_of_another_number_of_images_are_refused():
    with pytest.raises(core("errors").CuratorError, match="of 1 image, and 2"):
        boxes([[DICT]], (BATCH, BATCH))


@pytest.mark.parametrize("name", [name for name in BOXES if name != "an empty list"])
def test_whatever_a_file_says_in_the_place_of_boxes_is_refused(name):
    wire = BOXES[name]
    if isinstance(wire, dict) and "__value__" in wire:
        wire = wire["__value__"]
    module = part("curate.face_wires")
    refused = (module.FaceWireError, core("analysis.given_faces").GivenFacesError)
    with pytest.raises(refused, match=r"can't be read|Faces are given of"):
        boxes(wire, (BATCH,) * 4, layout=core("analysis.poses").ARCFACE_LAYOUT)
