"""ExportAssets in a real ComfyUI: of a set with faces, and of a batch with masks on a wire."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.support.comfyui.graphs import node, stock
from tests.support.comfyui.portraits import draw_folder
from tests.support.texture_atlas import read_atlas

WIDGETS = {
    "name": "char1", "background": "keep", "trim": True, "size": "as it comes",
    "anchor": "center", "atlas": True, "atlas_size": "1024", "padding": 2, "extrude": 1,
}  # fmt: skip
CATEGORIES = "near = portrait of a person, close-up\nfar = portrait of a person, half body"


@pytest.fixture(scope="module")
def packed(server):
    """Three portraits: cut out around their faces, and as a batch with their red as masks."""
    draw_folder(server.base / "input" / "asset_images", count=3)
    graph = {
        "1": node("LoadImageSet", folder="asset_images"),
        "2": node(
            "FaceValidate", images=["1", 0], pack="miniature", minimum_confidence=0.1,
            minimum_share=0.0, minimum_side=0.0, minimum_identity=-1.0,
        ),
        "3": node(
            "ExportAssets", **WIDGETS | {
                "images": ["2", 0], "folder": "game/figures", "background": "figure",
                "size": "power-of-two", "categories": CATEGORIES,
            },
        ),
        "4": node("ImageSetToImages", images=["2", 0], which="accepted", first=0, count=64),
        "5": stock("ImageToMask", image=["4", 0], channel="red"),
        "6": node(
            "ExportAssets",
            **WIDGETS | {"batch": ["4", 0], "masks": ["5", 0], "folder": "game/masked",
                         "atlas": False, "trim": False},
        ),
        "7": stock("PreviewImage", images=["3", 0]),
        "8": stock("PreviewAny", source=["6", 3]),
    }  # fmt: skip
    return graph, server.run(graph)


def test_a_set_with_faces_is_cut_out_tagged_and_packed(server, packed):
    _, run = packed
    folder = server.base / "output" / "game" / "figures"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["count"] == 3
    assert {entry["file"].partition("/")[0] for entry in manifest["assets"]} <= {"near", "far"}
    assert manifest["background"]["kind"] == "figure"
    found = read_atlas(folder / "atlas.json")
    assert len(found) == 3
    for name, image in found.items():
        with Image.open(folder / name) as asset:
            assert image.tobytes() == asset.tobytes()
            assert asset.getchannel("A").getextrema() == (0, 255)
    assert "3 of 3 images" in run.outputs["3"]["text"][0]
    assert "Identity: mean" in run.outputs["3"]["text"][0]
    assert run.outputs["3"]["images"], "the atlas is shown"
    [shown] = run.outputs["7"]["images"]
    with Image.open(server.base / "temp" / shown["filename"]) as image:
        assert image.size == Image.open(folder / "atlas.png").size


def test_a_batch_with_masks_on_a_wire_is_packed(server, packed):
    _, run = packed
    folder = server.base / "output" / "game" / "masked"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len(names) == 3
    assert all(name.startswith("char1/image_") for name in names)
    assert not (folder / "atlas.json").exists()
    for name in names:
        with Image.open(folder / name) as image:
            pixels = np.asarray(image).astype(int)
        seen = pixels[..., 3] > 0
        assert np.abs(pixels[..., 0] - pixels[..., 3])[seen].max() <= 1
    assert "3 of 3 images" in run.outputs["8"]["text"][0]
    with zipfile.ZipFile(folder.with_name("masked.zip")) as archive:
        assert {f"masked/{name}" for name in names} < set(archive.namelist())


def test_a_second_queue_runs_nothing_and_a_damaged_asset_is_made_again(server, packed):
    graph, _ = packed
    assert {"3", "6"} <= set(server.run(graph).cached)
    folder = server.base / "output" / "game" / "figures"
    before = folder.with_name("figures.zip").read_bytes()
    asset = next(folder.glob("*/*.png"))
    asset.write_bytes(asset.read_bytes()[:-30])
    run = server.run(graph)
    assert "3" not in run.cached
    assert "Not as written, and made again" in run.outputs["3"]["text"][0]
    assert folder.with_name("figures.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": ["4", 0]}, "and not both"),
        ({"masks": ["9", 0]}, "1 mask is given for 3 images"),
        ({"size": "huge"}, "is no size"),
        ({"folder": "../../elsewhere"}, "outside the folders"),
        ({"categories": "one = a person"}, "two at least"),
    ],
)
def test_what_cannot_be_is_refused(server, packed, changes, says):
    graph = dict(packed[0])
    widgets = {**WIDGETS, "images": ["2", 0], "folder": "game/refused", **changes}
    graph = {key: graph[key] for key in "1245"} | {
        "3": node("ExportAssets", **widgets),
        "9": stock("SolidMask", value=1.0, width=128, height=128),
    }
    assert says in server.refusal(graph)
