"""Masks beside a dataset's images: what they show, and where each trainer looks for them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tomlkit
from PIL import Image

from character_curator.analysis.cropping import CropWish, crop_images
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_validation import FaceThresholds, validate_faces
from character_curator.analysis.poses import ARCFACE_LAYOUT, DLIB_LAYOUT, HEADS, layout_of
from character_curator.dataset import CuratedDataset, export, verify
from character_curator.dataset.masks import LAYOUTS, MaskError
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from character_curator.training import read_examples
from tests.support.tiny_analysis import needs_miniature_faces, portrait, write_images

pytestmark = needs_miniature_faces

# Keys that kohya's sd-scripts takes of a subset with conditioning_data_dir: library/config_util.py,
# SUBSET_ASCENDABLE_SCHEMA, CN_SUBSET_ASCENDABLE_SCHEMA and CN_SUBSET_DISTINCT_SCHEMA.
OF_KOHYA = {
    "color_aug", "face_crop_aug_range", "flip_aug", "num_repeats", "random_crop", "shuffle_caption",
    "keep_tokens", "keep_tokens_separator", "secondary_separator", "caption_separator",
    "enable_wildcard", "token_warmup_min", "token_warmup_step", "caption_prefix", "caption_suffix",
    "custom_attributes", "resize_interpolation", "caption_extension", "cache_info", "image_dir",
    "conditioning_data_dir",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    drawn = {f"a{i}.png": portrait(i, framing="bust") for i in range(2)}
    drawn["b.png"] = portrait(10, framing="half body")
    return write_images(folder, drawn)


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser(FACE_PACK_PATH)


def measured(photos, analyser):
    with FeatureStore() as store:
        limits = FaceThresholds(confidence=0.2)
        return validate_faces(ImageSet.from_folder(photos), analyser, store, limits)


@pytest.fixture(scope="module")
def images(photos, analyser):
    return measured(photos, analyser)


def mask_of(dataset, name):
    known = json.loads((dataset / "metadata.json").read_text())[name]
    with Image.open(dataset / known["mask"]) as image:
        assert image.mode == "L"
        assert image.size == (known["width"], known["height"])
        return np.asarray(image), known


@pytest.mark.parametrize(
    ("layout", "place"),
    [("kohya", "masks/{}.png"), ("onetrainer", "{}-masklabel.png"),
     ("ai-toolkit", "_controls/{}.png")],
)  # fmt: skip
def test_each_layout_is_where_its_trainer_looks(images, tmp_path, layout, place, hugging_face):
    made = export(images, tmp_path / "set", name="char1", trigger="char1", masks="head",
                  mask_layout=layout)  # fmt: skip
    assert (made.masks, made.white_masks) == (3, 0)
    for stem in ("a0", "a1", "b"):
        assert (made.folder / place.format(stem)).is_file()
    # Whoever reads the dataset sees three images, and a training its masks.
    assert [e["filename"] for e in CuratedDataset(made.folder).images] == [
        "a0.png", "a1.png", "b.png",
    ]  # fmt: skip
    examples, skipped = read_examples(made.folder, masks="beside")
    assert [e.mask.path for e in examples] == [
        made.folder / place.format(stem) for stem in ("a0", "a1", "b")
    ]
    assert skipped == []
    assert len(hugging_face("imagefolder", data_dir=str(made.folder))["train"]) == 3
    assert verify(made.folder).ok
    subsets = tomlkit.parse((made.folder / "dataset.toml").read_text())["datasets"][0]["subsets"]
    if layout == "kohya":
        assert subsets[0]["conditioning_data_dir"] == "masks"
        assert set(subsets[0]) <= OF_KOHYA
        # It insists on a mask for each image, and on no other file beside them.
        stems = {path.stem for path in made.folder.glob("*.png")}
        assert {path.stem for path in (made.folder / "masks").iterdir()} == stems
    else:
        assert "conditioning_data_dir" not in subsets[0]
    assert layout in LAYOUTS


def test_kohyas_folders_have_their_masks_below_each(images, tmp_path):
    made = export(images, tmp_path / "set", name="n", trigger="char1", masks="face", layout="kohya",
                  repeats=3)  # fmt: skip
    assert (made.folder / "3_char1/masks/b.png").is_file()
    subset = tomlkit.parse((made.folder / "dataset.toml").read_text())["datasets"][0]["subsets"][0]
    assert subset["conditioning_data_dir"] == "3_char1/masks"
    assert {e.path.name for e in read_examples(made.folder)[0]} == {"a0.png", "a1.png", "b.png"}
    assert len(CuratedDataset(made.folder).images) == 3


def test_head_and_face_are_soft_ellipses_around_what_was_measured(images, tmp_path):
    head = export(images, tmp_path / "h", name="n", masks="head", max_side=64).folder
    face = export(images, tmp_path / "f", name="n", masks="face", max_side=64).folder
    for name in ("a0.png", "a1.png", "b.png"):
        whole, known = mask_of(head, name)
        inner, _ = mask_of(face, name)
        left, top, right, bottom = (round(edge) for edge in known["face_box"])
        middle = ((top + bottom) // 2, (left + right) // 2)
        assert whole[middle] == inner[middle] == 255
        assert inner[top : bottom + 1, left : right + 1].mean() > 150
        assert inner[:, : max(0, left - 4)].max(initial=0) == 0
        assert whole.sum() > 1.4 * inner.sum()
        assert (whole.astype(int) >= inner).mean() > 0.98
        assert whole[: max(0, top - 1)].max(initial=0) > 0  # hair
        assert np.count_nonzero((whole > 0) & (whole < 255)) > 0
    assert whole.shape == (64, 64)


def test_masks_beside_the_images_are_cut_with_their_crops(photos, analyser, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    ramp = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    Image.fromarray(ramp).save(folder / "b-masklabel.png")
    found = ImageSet.from_folder(folder)
    assert len(found) == 3
    assert "1 mask lies beside the images." in found.notes
    with FeatureStore() as store:
        cropped = crop_images(
            found, analyser, store, tmp_path / "work" / "crops", CropWish("bust", "1:1"),
            thresholds=FaceThresholds(confidence=0.2),
        )  # fmt: skip
    made = export(cropped, tmp_path / "set", name="n", masks="beside", mask_layout="onetrainer")
    assert (made.masks, made.white_masks) == (1, 2)
    assert made.masks_in_words == (
        "Masks of 1 image. For 2 images there was none: white, all counts."
    )
    mask, known = mask_of(made.folder, "b.png")
    left, top, right, bottom = known["crop_box"]
    assert np.array_equal(mask, ramp[top:bottom, left:right])
    white, _ = mask_of(made.folder, "a0.png")
    assert white.min() == 255
    table = (made.folder / "provenance.parquet").read_bytes()
    assert b"mask_file" not in table
    # The same from a folder of masks.
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(ramp).save(masks / "b.png")
    other = export(cropped, tmp_path / "other", name="n", masks=str(masks)).folder
    assert np.array_equal(mask_of(other, "b.png")[0], mask)


def test_transparency_is_a_mask(photos, tmp_path):
    folder = tmp_path / "clear"
    folder.mkdir()
    image = Image.open(photos / "b.png").convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 40, 128))
    image.putalpha(alpha)
    image.save(folder / "clear.png")
    (folder / "plain.png").write_bytes((photos / "a0.png").read_bytes())
    made = export(ImageSet.from_folder(folder), tmp_path / "set", name="n", masks="alpha")
    assert np.array_equal(mask_of(made.folder, "clear.png")[0], np.asarray(alpha))
    assert (made.masks, made.white_masks) == (1, 1)
    with Image.open(made.folder / "clear.png") as shown:
        assert shown.mode == "RGB"


def test_masks_may_be_given_in_the_order_of_the_images(images, tmp_path):
    given = [np.full((64, 64), 10 * i, np.uint8) for i in range(3)]
    made = export(images, tmp_path / "set", name="n", masks=given)
    assert [mask_of(made.folder, n)[0].max() for n in ("a0.png", "a1.png", "b.png")] == [0, 10, 20]
    with pytest.raises(MaskError, match="2 masks are given for 3"):
        export(images, tmp_path / "few", name="n", masks=given[:2])
    with pytest.raises(MaskError, match="different shapes"):
        export(images, tmp_path / "odd", name="n", masks=[np.zeros((64, 32), np.uint8)] * 3)
    assert not (tmp_path / "odd").exists()


def test_what_masks_cannot_be_is_said_before_anything_is_written(images, tmp_path):
    with pytest.raises(MaskError, match="neither a kind of masks"):
        export(images, tmp_path / "set", name="n", masks="hair")
    with pytest.raises(MaskError, match="No layout"):
        export(images, tmp_path / "set", name="n", masks="head", mask_layout="mine")
    assert not (tmp_path / "set").exists()


def test_the_layout_of_landmarks_is_told_from_the_points():
    for layout in (ARCFACE_LAYOUT, DLIB_LAYOUT):
        points = np.array(HEADS[layout])[:, :2] * 40
        for degrees in (-35, 0, 35):
            turn = np.radians(degrees)
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            noise = np.random.default_rng(abs(degrees)).normal(0, 2, (5, 2))
            assert layout_of(points @ rotation.T + 100 + noise) == layout


def test_rembg_segments_with_a_model_of_ones_own(images, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    pytest.importorskip("rembg")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    # Brighter is more: the mean of the channels, as a network of U-2-Net's inputs and outputs.
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
    graph = helper.make_graph(
        [node], "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 320, 320])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "mean.onnx")
    made = export(images, tmp_path / "set", name="n", masks="person",
                  mask_model=str(tmp_path / "mean.onnx"))  # fmt: skip
    assert made.masks == 3
    mask, _ = mask_of(made.folder, "b.png")
    grey = cv2.imread(str(made.folder / "b.png"), cv2.IMREAD_GRAYSCALE)
    assert np.corrcoef(mask.ravel(), grey.ravel())[0, 1] > 0.95
    with pytest.raises(MaskError, match="can't be had"):
        export(images, tmp_path / "no", name="n", masks="person", mask_model="no-such-model")
