"""Crops and masks in a real ComfyUI: cut, segmented on the wire, exported, and trained with."""

import json

import numpy as np
import pytest
from PIL import Image

from character_curator.reading.crops import crop_record
from tests.support.comfyui.graphs import node, stock, training
from tests.support.comfyui.portraits import draw_folder


@pytest.fixture(scope="module")
def exported(server):
    """Three portraits, cropped; their red channel is their mask."""
    draw_folder(server.base / "input" / "cropped", count=3)
    graph = {
        "1": node("LoadImageSet", folder="cropped"),
        "2": node(
            "CropImages", images=["1", 0], framing="close-up", aspect="1:1", pack="miniature",
            folder="masks/crops", minimum_confidence=0.1, minimum_side=64, upscale=True,
        ),
        "3": node("ImageSetToImages", images=["2", 0], which="selected", first=0, count=64),
        "4": stock("ImageToMask", image=["3", 0], channel="red"),
        "5": node(
            "DatasetExport", images=["2", 0], folder="masks/dataset", name="char1",
            trigger="char1", captions="{caption}", masks=["4", 0], mask_layout="onetrainer",
        ),
        "6": stock("PreviewAny", source=["2", 2]),
    }  # fmt: skip
    return graph, server.run(graph)


def dataset(server):
    return server.base / "output" / "masks" / "dataset"


def test_crops_and_masks_from_the_wire_are_in_the_dataset(server, exported):
    _, run = exported
    folder = dataset(server)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert len(metadata) == 3
    cropped = {name: values for name, values in metadata.items() if "crop_box" in values}
    assert cropped
    assert f"{len(cropped)} of 3 images cropped to close-up at 1:1." in run.outputs["2"]["text"][0]
    assert run.outputs["2"]["images"]
    assert "Masks of 3 images." in run.outputs["5"]["text"][0]
    first = next(iter(sorted(metadata)))
    with Image.open(folder / first) as image, Image.open(folder / metadata[first]["mask"]) as mask:
        assert mask.size == image.size
        red = np.asarray(image.convert("RGB"))[..., 0].astype(int)
        assert np.abs(red - np.asarray(mask)).max() <= 1
    assert metadata[first]["mask"] == first.replace(".png", "-masklabel.png")


def test_a_second_queue_cuts_nothing_and_a_lost_crop_is_cut_again(server, exported):
    graph, _ = exported
    assert "2" in server.run(graph).cached
    [crop, *_] = (server.base / "output" / "masks" / "crops").rglob("*.png")
    before = crop.read_bytes()
    crop.unlink()
    server.run(graph)
    assert crop.read_bytes() == before


@pytest.mark.slow
def test_a_lora_is_trained_with_the_masks_and_says_so(server, exported):
    graph = training(
        name="masked", folder="masks/dataset", mask_files="beside", epochs=1, sample_every=0,
        options="unmasked_weight = 0.0\nvalidation_timesteps = 2",
    )  # fmt: skip
    graph["3"] = stock("PreviewAny", source=["2", 5])
    summary = server.run(graph, 600).outputs["2"]["text"][0]
    assert "Masks weigh the loss of 3 of 3 images." in summary
    both = dict(graph["2"]["inputs"])
    both["masks"] = ["4", 0]
    assert "not both" in server.refusal(
        {**graph, "2": node("TrainLoRA", **both), "4": stock("SolidMask", value=1.0, width=128,
                                                             height=128)}
    )  # fmt: skip
    both.pop("mask_files")
    wired = {**graph, "2": node("TrainLoRA", **both | {"name": "wired"}),
             "4": stock("SolidMask", value=1.0, width=128, height=128)}  # fmt: skip
    assert (
        "One mask weighs the loss of 3 images." in (server.run(wired, 600).outputs["2"]["text"][0])
    )


def test_bars_are_cut_off_and_what_else_spoils_an_image_is_left_out(server):
    folder = server.base / "input" / "barred"
    draw_folder(folder, count=1)
    [drawn] = folder.glob("*.png")
    with Image.open(drawn) as image:
        portrait = image.convert("RGB")
    drawn.unlink()
    side = portrait.width
    rng = np.random.default_rng(1)
    inside = Image.fromarray(rng.integers(0, 255, (6, 6, 3)).astype(np.uint8))
    barred = Image.new("RGB", (side, side + 40))
    barred.paste(portrait, (0, 20))
    barred.save(folder / "barred.png")
    pair = Image.new("RGB", (2 * side, side))
    pair.paste(portrait)
    pair.paste(inside.resize((side, side), Image.Resampling.BICUBIC), (side, 0))
    pair.save(folder / "pair.png")
    graph = {
        "1": node("LoadImageSet", folder="barred"),
        "2": node("CropImages", images=["1", 0], framing="uncropped", aspect="", pack="miniature",
                  folder="barred/crops", cut_bars=0.02),
        "3": node("FaceValidate", images=["2", 0], pack="miniature", minimum_confidence=0.05,
                  minimum_share=0.01, minimum_side=16.0, minimum_identity=-1.0,
                  choice="largest"),
        "4": node("QualityScore", images=["3", 0], minimum=0.0, formula="seed-document",
                  max_bars=0.6, grids_from=0.96),
        "5": stock("PreviewAny", source=["4", 1]),
        "6": stock("PreviewAny", source=["2", 2]),
    }  # fmt: skip
    run = server.run(graph)
    assert "Bars were cut off 1 of 2 images." in run.outputs["6"]["text"][0]
    assert run.outputs["5"]["text"][0] == ("1 of 2 images is accepted; rejected: 1 several_images.")
    [crop] = (server.base / "output" / "barred" / "crops").rglob("*.png")
    with Image.open(crop) as image:
        assert image.width == side
        assert side - 10 <= image.height <= side


def test_faces_that_other_nodes_have_found_are_taken(server):
    draw_folder(server.base / "input" / "given", count=1)
    graph = {
        "1": node("LoadImageSet", folder="given"),
        "2": stock("SolidMask", value=1.0, width=128, height=128),
        "3": node("FaceValidate", images=["1", 0], pack="miniature", masks=["2", 0],
                  minimum_confidence=0.99, minimum_share=0.9, minimum_side=64.0,
                  minimum_identity=-1.0),
        "4": stock("PreviewAny", source=["3", 1]),
    }  # fmt: skip
    if "PrimitiveBoundingBox" in server.get("/object_info"):
        graph["5"] = stock("PrimitiveBoundingBox", x=4, y=4, width=32, height=32)
        graph["6"] = node("FaceValidate", images=["1", 0], pack="miniature", boxes=["5", 0],
                          minimum_confidence=0.99, minimum_share=0.9, minimum_side=64.0,
                          minimum_identity=-1.0)  # fmt: skip
        graph["7"] = stock("PreviewAny", source=["6", 1])
    run = server.run(graph)
    assert "1 of 1 image is accepted" in run.outputs["4"]["text"][0]
    if "7" in graph:
        assert "1 face_too_small" in run.outputs["7"]["text"][0]


def test_crops_are_cut_around_faces_that_other_nodes_have_found(server):
    draw_folder(server.base / "input" / "around", count=1)
    crop = {
        "images": ["1", 0], "framing": "close-up", "aspect": "1:1", "pack": "miniature",
        "folder": "around/crops", "masks": ["4", 0], "minimum_confidence": 0.99,
    }  # fmt: skip
    graph = {
        "1": node("LoadImageSet", folder="around"),
        "2": stock("SolidMask", value=0.0, width=128, height=128),
        "3": stock("SolidMask", value=1.0, width=32, height=32),
        "4": stock("MaskComposite", destination=["2", 0], source=["3", 0], x=12, y=70,
                   operation="add"),
        "5": node("CropImages", **crop),
        "6": stock("PreviewAny", source=["5", 2]),
    }  # fmt: skip
    said = server.run(graph).outputs["6"]["text"][0]
    assert "1 of 1 image cropped to close-up at 1:1." in said
    [made] = (server.base / "output" / "around" / "crops").rglob("*.png")
    record = crop_record(made)
    left, top, right, bottom = record.box
    assert left <= 12 < 44 <= right <= 80
    assert top <= 70 < 102 <= bottom <= 128
    graph["5"] = node("CropImages", **crop, cut_bars=0.02)
    assert "Cut bars in a CropImages before" in server.refusal(graph)
