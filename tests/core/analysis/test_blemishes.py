"""Bars at the edges, and several images in one."""

import cv2
import numpy as np
import pytest

from character_curator import project
from character_curator.analysis.blemishes import (
    SEAM_FROM,
    Blemishes,
    BlemishLimits,
    blemishes,
    inner_box,
    reject_blemished,
    seam,
)
from character_curator.features import FeatureStore
from character_curator.imageset import ImageSet
from character_curator.pipeline import unblemished
from tests.support.tiny_analysis import portrait, write_images


def texture(number, width=320, height=240):
    """Something rough that is nowhere plain, as photographs are."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(40, 216, (height // 48 + 2, width // 48 + 2, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(float)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def compressed(image, quality=80):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (10, 200, 60)])
@pytest.mark.parametrize("bars", [(30, 30, 0, 0), (0, 0, 53, 53), (25, 0, 0, 0), (20, 27, 31, 44)])
def test_bars_are_measured_to_a_few_pixels(bars, color):
    top, _bottom, left, _right = bars
    image = cv2.copyMakeBorder(texture(1), *bars, cv2.BORDER_CONSTANT, value=color)
    found = inner_box(compressed(image))
    expected = (left, top, left + 320, top + 240)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 3
    share = 1 - 320 * 240 / (image.shape[0] * image.shape[1])
    assert blemishes(compressed(image)).bars == pytest.approx(share, abs=0.03)


def test_a_plain_backdrop_is_no_bar():
    image = np.full((300, 300, 3), 250, np.uint8)
    cv2.circle(image, (150, 160), 100, (40, 80, 120), -1)
    assert inner_box(compressed(image)) == (0, 0, 300, 300)
    assert inner_box(np.zeros((50, 50, 3), np.uint8)) == (0, 0, 50, 50)
    for number in range(4):
        assert inner_box(portrait(number)) == (0, 0, 128, 128)


def grid(rows, columns, gap):
    width = columns * 128 + (columns - 1) * gap
    image = np.full((rows * 128 + (rows - 1) * gap, width, 3), 255, np.uint8)
    for i in range(rows):
        for j in range(columns):
            y, x = i * (128 + gap), j * (128 + gap)
            image[y : y + 128, x : x + 128] = texture(7 * i + j, 128, 128)
    return compressed(image)


@pytest.mark.parametrize("gap", [0, 6])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (3, 3)])
def test_several_images_in_one_have_a_seam(rows, columns, gap):
    assert seam(grid(rows, columns, gap)) >= SEAM_FROM


def test_one_image_has_none():
    for number in range(8):
        assert seam(compressed(portrait(number, number))) < 0.8
        assert seam(texture(number)) < 0.8
    leaning = texture(3)
    for y in range(240):  # an edge that is nearly upright is no seam
        leaning[y, 150 + y // 24 :] = leaning[y, 150 + y // 24 :] // 3
    assert seam(leaning) < SEAM_FROM


def test_an_image_is_rejected_for_what_is_asked(tmp_path):
    barred = cv2.copyMakeBorder(texture(1), 40, 40, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    write_images(tmp_path / "in", {"bars.png": barred, "grid.png": grid(2, 2, 0),
                                   "plain.png": portrait()})  # fmt: skip
    images = ImageSet.from_folder(tmp_path / "in")
    with FeatureStore(tmp_path / "s.sqlite") as store:
        found = reject_blemished(images, store, BlemishLimits(0.02, SEAM_FROM))
        assert found.table["rejection"].to_list() == ["bars", "several_images", None]
        assert "25.0% of the image" in found.table["rejection_detail"][0]
        for path in images.paths():
            path.unlink()  # what is known is not decoded again
        again = reject_blemished(images, store, BlemishLimits(0.02, None))
        assert again.table["rejection"].to_list() == ["bars", None, None]
        assert reject_blemished(images, store, BlemishLimits()) is images
    one = Blemishes((0.1, 0.0, 0.9, 1.0), 0.5)
    assert Blemishes.from_bytes(one.to_bytes()) == one


def test_a_project_asks_for_it(tmp_path):
    write_images(tmp_path / "in", {"grid.png": grid(1, 2, 0)})
    images = ImageSet.from_folder(tmp_path / "in")
    asked = project.from_mapping({"source": "in", "blemishes": {"grids_from": 0.96}}, "p")
    with FeatureStore() as store:
        assert unblemished(asked, images, store).rejections() == {"several_images": 1}
        silent = project.from_mapping({"source": "in"}, "p")
        assert unblemished(silent, images, store) is images
