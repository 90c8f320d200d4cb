"""A texture atlas: an independent reader gets every image back, pixel for pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from character_curator.asset_sections import AtlasRules
from character_curator.assets.atlas import AtlasError, packed, page_image, page_json
from tests.support.texture_atlas import read_atlas


def write_images(folder, count=23, most=60, seed=0):
    """Write images of random pixels with transparent edges; return what an atlas asks of them."""
    rng = np.random.default_rng(seed)
    images = {}
    for number in range(count):
        width, height = (int(n) for n in rng.integers(8, most, 2))
        pixels = np.zeros((height, width, 4), np.uint8)
        left, top = (int(n) for n in rng.integers(0, 4, 2))
        part = pixels[top:, left:]
        part[...] = rng.integers(0, 256, part.shape)
        part[..., 3] = rng.integers(1, 256, part.shape[:2])
        name = f"{'odd' if number % 2 else 'even'}/i{number}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        images[name] = ((width, height), (left, top, width, height))
    return images


def write_atlas(folder, images, rules):
    atlas = packed(images, rules)
    for page, (texture, table) in enumerate(atlas.names()):
        page_image(atlas, page, folder, rules).save(folder / texture)
        (folder / table).write_text(page_json(atlas, page))
    return atlas


def assert_whole(folder, images, first):
    found = read_atlas(folder / first)
    assert found.keys() == images.keys()
    for name, image in found.items():
        assert image.tobytes() == Image.open(folder / name).tobytes(), name


@pytest.mark.parametrize("extrude", [0, 2])
@pytest.mark.parametrize("padding", [0, 3])
def test_a_reader_gets_every_image_back(extrude, padding, tmp_path):
    images = write_images(tmp_path)
    atlas = write_atlas(tmp_path, images, AtlasRules(extrude=extrude, padding=padding))
    assert len(atlas.pages) == 1
    assert all(side & (side - 1) == 0 for side in atlas.pages[0])
    assert_whole(tmp_path, images, "atlas.json")


def test_images_keep_their_distance_and_their_edges_are_repeated(tmp_path):
    images = write_images(tmp_path, 6)
    rules = AtlasRules(extrude=2, padding=3)
    atlas = write_atlas(tmp_path, images, rules)
    sheet = np.asarray(Image.open(tmp_path / "atlas.png")).copy()
    for frame in atlas.frames:
        left, top, right, bottom = frame.box
        w, h = right - left, bottom - top
        own = sheet[frame.y - 2 : frame.y + h + 2, frame.x - 2 : frame.x + w + 2]
        inner = own[2:-2, 2:-2]
        assert (own == np.pad(inner, ((2, 2), (2, 2), (0, 0)), "edge")).all()
        around = sheet[frame.y - 5 : frame.y + h + 5, frame.x - 5 : frame.x + w + 5].copy()
        around[3:-3, 3:-3] = 0
        assert not around.any()


def test_what_does_not_fit_goes_onto_further_pages(tmp_path):
    images = write_images(tmp_path)
    atlas = write_atlas(tmp_path, images, AtlasRules(atlas_size=128))
    assert len(atlas.pages) > 2
    assert max(max(page) for page in atlas.pages) <= 128
    assert_whole(tmp_path, images, "atlas-1.json")
    meta = json.loads((tmp_path / "atlas-0.json").read_text())["meta"]
    assert meta["image"] == "atlas-0.png"
    assert "atlas-1.json" in meta["related_multi_packs"]


def test_the_json_is_that_of_the_format(tmp_path):
    images = {"a/one.png": ((16, 16), (2, 3, 12, 14)), "a/two.png": ((8, 8), (0, 0, 8, 8))}
    data = json.loads(page_json(packed(images, AtlasRules()), 0))
    assert data["frames"]["a/one.png"] == {
        "frame": {"x": data["frames"]["a/one.png"]["frame"]["x"], "y": 3, "w": 10, "h": 11},
        "rotated": False,
        "trimmed": True,
        "spriteSourceSize": {"x": 2, "y": 3, "w": 10, "h": 11},
        "sourceSize": {"w": 16, "h": 16},
    }
    assert data["frames"]["a/two.png"]["trimmed"] is False
    assert data["meta"] == {
        "app": "character-curator", "version": "1.0", "image": "atlas.png", "format": "RGBA8888",
        "size": {"w": 16, "h": 32}, "scale": "1",
    }  # fmt: skip


def test_the_order_in_which_images_come_changes_nothing(tmp_path):
    images = write_images(tmp_path)
    turned = dict(reversed(images.items()))
    assert packed(images, AtlasRules()) == packed(turned, AtlasRules())


def test_an_image_larger_than_a_page_is_refused():
    with pytest.raises(AtlasError, match=r"big\.png has 130 x 20 pixels.*larger atlas_size"):
        packed({"big.png": ((130, 20), (0, 0, 130, 20))}, AtlasRules(atlas_size=128))
