"""What of an image is the subject: found around a head, kept in the store, or refused."""

from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from PIL import Image

from character_curator.analysis.crop_boxes import Head
from character_curator.assets.cutouts import Cutter, figure
from character_curator.dataset.masks import MaskError
from character_curator.features import FeatureStore


def drawn(side=192, ground=(150, 160, 170), noise=6):
    """A person of a head and shoulders on a plain ground, the truth, and the head."""
    truth = np.zeros((side, side), np.uint8)
    head = Head(x=side / 2, y=side * 0.35, across=side * 0.13, along=side * 0.18, roll=0.0)
    cv2.ellipse(
        truth, (side // 2, int(head.y)), (int(head.across), int(head.along)), 0, 0, 360, 1, -1
    )
    body = np.array([[0.38, 0.5], [0.62, 0.5], [0.8, 1], [0.2, 1]]) * side
    cv2.fillPoly(truth, [body.astype(np.int32)], 2)
    colors = np.array([ground, (220, 170, 140), (40, 90, 60)], np.float64)
    rng = np.random.default_rng(0)
    pixels = colors[truth] + rng.normal(0, noise, (side, side, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), truth > 0, head


def overlap(mask, truth):
    return ((mask > 127) & truth).sum() / ((mask > 127) | truth).sum()


@pytest.mark.parametrize("side", [96, 192, 700])
def test_a_person_on_a_plain_ground_is_cut_out_with_what_hangs_together(side):
    image, truth, head = drawn(side)
    apart = (slice(side // 4, side // 4 + side // 8), slice(side // 16, side // 16 + side // 8))
    image[apart] = (40, 90, 60)  # of the clothes' color, and no part of them
    mask = figure(image, head)
    assert overlap(mask, truth) > 0.97
    assert not mask[apart].any()
    assert set(np.unique(mask)) - {0, 255}, "a soft edge"
    assert np.array_equal(figure(image, head), mask)


def row(head, side):
    """A face box whose head is about that one."""
    box = [head.x - head.across, head.y - head.along / 2, head.x + head.across, head.y + head.along]
    return {"path": "a.png", "hash": "a" * 64, "face_box": box, "face_landmarks": None, "yaw": 0.0}


def test_what_the_store_knows_is_not_made_again():
    image, truth, head = drawn()
    shown = Image.fromarray(image)
    with FeatureStore() as store:
        first = np.asarray(Cutter("figure", store=store).mask(row(head, 192), shown))
        assert overlap(first, truth) > 0.95
        assert store.computed == {"cut-out": 1}
        # Whatever is given now, the pixels are known by their hash.
        again = Cutter("figure", store=store).mask(row(head, 192), Image.new("RGB", shown.size))
        assert np.array_equal(np.asarray(again), first)
        assert store.computed == {"cut-out": 1}


def test_a_head_is_where_it_was_measured():
    image, _, head = drawn()
    mask = np.asarray(Cutter("head").mask(row(head, 192), Image.fromarray(image)))
    assert mask[int(head.y), int(head.x)] == 255
    assert mask[-10:].max() == 0


def test_what_cannot_be_had_is_said():
    image = Image.new("RGB", (20, 20))
    with pytest.raises(MaskError, match=r"b\.png shows no face that 'figure' could start from"):
        Cutter("figure").mask({"path": "b.png", "hash": "b" * 64}, image)
    with pytest.raises(MaskError, match="neither one of keep, figure, person"):
        Cutter("nowhere/at/all")


@pytest.mark.skipif(find_spec("rembg") is not None, reason="rembg is there")
def test_without_rembg_it_says_what_does_without():
    with pytest.raises(MaskError, match=r"need rembg\. Install it.*figure cuts out the person"):
        Cutter("person")


def test_a_kept_background_needs_no_mask():
    assert Cutter("keep").mask({"path": "a.png"}, Image.new("RGB", (8, 8))) is None
