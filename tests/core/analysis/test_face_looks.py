"""Quality on the face: what spoils a face lowers it, and resolution and noise do not."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from character_curator.analysis.face_looks import (
    LOOK_COLUMNS,
    face_looks,
    looks_from_bytes,
    looks_to_bytes,
)
from character_curator.analysis.face_quality import CURVES, PARTS, face_quality, part_scores

BOX = np.array([[168, 64, 282, 214]], np.float32)
"""The face in the photograph, from forehead to chin."""


@pytest.fixture(scope="module")
def photograph():
    """A portrait in the public domain, of 512 x 512 pixels, that scikit-image ships."""
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        pytest.skip("scikit-image, which ships a photograph, is not installed")
    return cv2.imread(str(Path(found.submodule_search_locations[0]) / "data" / "astronaut.png"))


def noisy(image, sigma):
    rng = np.random.default_rng(5)
    return np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def blurred(image, share):
    return cv2.GaussianBlur(image, (0, 0), share * float(BOX[0, 2] - BOX[0, 0]))


def as_jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def scaled(image, factor):
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=kind)


def quality(image, box=BOX):
    return float(face_quality(face_looks(image, box))[0])


def test_a_sharp_photograph_is_good_enough(photograph):
    assert quality(photograph) >= 0.8


def face_out_of_focus(image):
    left, top, right, bottom = BOX[0].astype(int)
    mixed = image.copy()
    mixed[top:bottom, left:right] = blurred(image, 0.03)[top:bottom, left:right]
    return mixed


SPOILT = {
    "blur": lambda image: blurred(image, 0.02),
    "strong blur": lambda image: blurred(image, 0.04),
    "blur and noise": lambda image: noisy(blurred(image, 0.03), 12),
    "blur and much noise": lambda image: noisy(blurred(image, 0.02), 25),
    "face out of focus": face_out_of_focus,
    "a smear": lambda image: cv2.filter2D(image, -1, np.full((1, 9), 1 / 9)),
    "far too bright": lambda image: np.clip(image * 2.2 + 30.0, 0, 255).astype(np.uint8),
    "far too dark": lambda image: (image * 0.12).astype(np.uint8),
    "JPEG of quality 10": lambda image: as_jpeg(image, 10),
    "much noise": lambda image: noisy(image, 30),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_what_spoils_a_face_fails(photograph, fault):
    assert quality(SPOILT[fault](photograph)) < 0.74


HARMLESS = {
    "little noise": lambda image: noisy(image, 8),
    "JPEG of quality 75": lambda image: as_jpeg(image, 75),
    "a little darker": lambda image: (image * 0.75).astype(np.uint8),
    "a background out of focus": lambda image: np.where(
        np.pad(np.ones((170, 134, 1), bool), ((54, 288), (158, 220), (0, 0))),
        image, blurred(image, 0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", HARMLESS)
def test_what_does_not_touch_the_face_passes(photograph, change):
    assert quality(HARMLESS[change](photograph)) >= 0.74


def test_noise_does_not_pass_for_detail(photograph):
    plain = face_looks(photograph, BOX)[0][0]
    for sigma in (6, 12, 25):
        assert face_looks(noisy(photograph, sigma), BOX)[0][0] == pytest.approx(plain, rel=0.15)
    # Where the variance of the Laplacian says the opposite.
    laplacian = [
        cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()
        for image in (photograph, noisy(blurred(photograph, 0.03), 25))
    ]
    assert laplacian[1] > laplacian[0]


def test_sharpness_hardly_depends_on_resolution(photograph):
    plain = face_looks(photograph, BOX)[0][0]
    for factor in (1.1, 2.0, 4.0):
        larger = face_looks(scaled(photograph, factor), BOX * factor)[0][0]
        assert larger == pytest.approx(plain, rel=0.2)


def test_each_part_is_measured_where_it_is(photograph):
    column = dict(zip(LOOK_COLUMNS, range(len(LOOK_COLUMNS)), strict=True))
    plain = face_looks(photograph, BOX)[0]
    assert face_looks(noisy(photograph, 20), BOX)[0][column["face_noise"]] == pytest.approx(
        20 * np.hypot.reduce([0.114, 0.587, 0.299]), rel=0.15
    )
    bright = np.full_like(photograph, 255)
    assert face_looks(bright, BOX)[0][column["face_burnt"]] == 1
    assert face_looks(np.zeros_like(bright), BOX)[0][column["face_crushed"]] == 1
    assert face_looks(bright, BOX)[0][column["face_brightness"]] == 255
    blocks = face_looks(as_jpeg(photograph, 10), BOX)[0][column["face_blocks"]]
    assert blocks > 1.9 > 1.3 > plain[column["face_blocks"]]


def test_a_box_may_leave_the_image(photograph):
    looks = face_looks(photograph, np.array([[-40, -30, 90, 90], [600, 0, 700, 90]], np.float32))
    assert np.isfinite(looks[0]).all()
    assert np.isnan(looks[1]).all()
    assert np.isnan(face_quality(looks)[1])
    assert face_looks(photograph, np.zeros((0, 4), np.float32)).shape == (0, len(LOOK_COLUMNS))


def test_looks_survive_packing():
    looks = np.random.default_rng(0).random((3, len(LOOK_COLUMNS))).astype(np.float32)
    np.testing.assert_array_equal(looks_from_bytes(looks_to_bytes(looks)), looks)


def test_the_quality_is_the_least_part():
    assert list(CURVES) == list(PARTS) == list(LOOK_COLUMNS)
    good = [4.0, 2.0, 120.0, 0.0, 0.0, 1.0]
    scores = part_scores(dict(zip(LOOK_COLUMNS, np.array([good]).T, strict=True)))
    assert min(score[0] for score in scores.values()) == pytest.approx(0.9)
    for position, bad in enumerate([1.0, 30.0, 20.0, 0.5, 0.9, 3.0]):
        row = list(good)
        row[position] = bad
        worse = face_quality(np.array([row], np.float32))[0]
        name = LOOK_COLUMNS[position]
        assert worse == pytest.approx(np.interp(bad, *np.array(CURVES[name]).T))
        assert worse < 0.74


@pytest.mark.parametrize(("wide", "high"), [(4, 3000), (3000, 4), (9000, 5)])
def test_a_face_as_narrow_as_a_line_has_looks(wide, high):
    image = np.random.default_rng(0).integers(0, 255, (high, wide, 3), dtype=np.uint8)
    looks = face_looks(image, np.array([[0, 0, wide, high]], np.float32))
    assert np.isfinite(looks).all()
