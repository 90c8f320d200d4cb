"""Crops: around the person, through no head, with what they were cut from."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from character_curator import pipeline, project
from character_curator.analysis.crop_boxes import (
    FRAMES,
    AspectError,
    Head,
    aspect_of,
    crop_box,
    head_of,
)
from character_curator.analysis.cropping import CropWish, crop_images
from character_curator.analysis.face_analyser import FaceAnalyser
from character_curator.analysis.face_validation import FaceThresholds
from character_curator.cli import main
from character_curator.damages import collected_damage, summary
from character_curator.dataset import CuratedDataset
from character_curator.dataset.cleaning import cleaned
from character_curator.features import FeatureStore
from character_curator.generation.reproduce import OriginalNotFoundError, reproduce
from character_curator.imageset import ImageSet
from character_curator.miniature import FACE_PACK_PATH
from character_curator.project import ProjectFileError, from_mapping
from character_curator.reading.crops import crop_record
from character_curator.verification.evidence import read_evidence
from character_curator.verification.reproduction import regenerated
from tests.support.color_profiles import DISPLAY_P3, rgb_profile
from tests.support.small_run import PROJECT
from tests.support.tiny_analysis import (
    empty_place,
    group,
    needs_miniature_faces,
    portrait,
    write_images,
)

pytestmark = needs_miniature_faces

FRAMINGS = sorted(FRAMES)
SIDES = st.integers(40, 3000)
SHARES = st.floats(0.02, 0.98)


@given(
    st.tuples(SIDES, SIDES), SHARES, SHARES, st.floats(0.02, 0.6), st.floats(-40, 40),
    st.floats(-1, 1), st.sampled_from(FRAMINGS), st.sampled_from(["1:1", "4:5", "2:3", "3:2"]),
)  # fmt: skip
def test_no_crop_goes_through_the_head(size, across, down, tall, roll, yaw, framing, aspect):
    wide, high = size
    height = tall * high
    face = (across * wide - 0.4 * height, down * high - height / 2,
            across * wide + 0.4 * height, down * high + height / 2)  # fmt: skip
    head = replace(head_of(face, None, yaw), roll=roll)
    ratio = aspect_of(aspect, framing)
    box = crop_box(size, face, head, framing, ratio).box
    if box is None:
        return
    left, top, right, bottom = box
    assert 0 <= left < right <= wide
    assert 0 <= top < bottom <= high
    x0, y0, x1, y1 = head.box
    # As far as the image itself shows it, to a pixel of rounding.
    assert left <= max(0, x0) + 1
    assert top <= max(0, y0) + 1
    assert right >= min(wide, x1) - 1
    assert bottom >= min(high, y1) - 1
    assert abs((right - left) - (bottom - top) * float(ratio)) <= 0.5 * (1 + float(ratio)) + 1e-6
    shown = height / (bottom - top)
    _, least, most, _ = FRAMES[framing]
    pixel = 2 / (bottom - top)
    assert 0.8 * least * (1 - pixel) <= shown <= most * (1 + pixel)


def test_a_framing_that_the_image_does_not_show_cannot_be_had():
    size, face = (1000, 1000), (400, 300, 560, 500)
    head = head_of(face)
    assert crop_box(size, face, head, "bust", Fraction(4, 5)).box is not None
    whole = crop_box(size, face, head, "full", Fraction(1, 2))
    assert whole.box is None
    assert "too little around the face for full body at 1:2" in whole.problem
    # The same person in a taller image, but the feet are not in it.
    cut_off = crop_box((1500, 2000), (700, 950, 780, 1050), head_of((700, 950, 780, 1050)), "full",
                       Fraction(3, 4))  # fmt: skip
    assert cut_off.box is not None
    lower = (700, 1250, 780, 1350)
    cut_off = crop_box((1500, 2000), lower, head_of(lower), "full", Fraction(3, 4))
    assert "above the feet" in cut_off.problem


def test_a_tilted_head_is_tilted_in_the_estimate():
    upright = head_of((100, 100, 180, 200), np.array(
        [[120, 140], [160, 140], [140, 160], [125, 180], [155, 180]], float
    ))  # fmt: skip
    assert abs(upright.roll) < 3
    turn = np.radians(30)
    points = np.array([[120, 140], [160, 140], [140, 160], [125, 180], [155, 180]], float)
    moved = (points - 150) @ np.array([[np.cos(turn), np.sin(turn)],
                                       [-np.sin(turn), np.cos(turn)]]) + 150  # fmt: skip
    tilted = head_of((100, 100, 180, 200), moved)
    assert tilted.roll == pytest.approx(30, abs=5)
    assert tilted.x > upright.x + 5  # clockwise: the crown goes to the right
    assert isinstance(tilted, Head)


def test_what_is_no_aspect_ratio_is_refused():
    assert aspect_of(" 832:1216 ", "bust") == Fraction(832, 1216)
    assert aspect_of(None, "half") == Fraction(2, 3)
    for text in ("4:0", "wide", "1:9", "4", "-1:1"):
        with pytest.raises(AspectError, match="no aspect ratio"):
            aspect_of(text, "bust")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Portraits of one person as busts and half bodies, a group, a place, and a broken file."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = {f"bust{i}.png": portrait(i, framing="bust") for i in range(3)}
    drawn |= {f"half{i}.png": portrait(10 + i, framing="half body") for i in range(3)}
    drawn |= {"group.png": group(), "place.png": empty_place()}
    write_images(folder, drawn)
    (folder / "bust1.txt").write_text("char1 at home")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def analyser():
    return FaceAnalyser(FACE_PACK_PATH)


def cropped(photos, folder, analyser, wish, **thresholds):
    limits = FaceThresholds(confidence=0.3, **thresholds)
    with FeatureStore(folder / "store.sqlite") as store:
        return crop_images(
            ImageSet.from_folder(photos), analyser, store, folder / "crops", wish, thresholds=limits
        )


@pytest.fixture(scope="module")
def busts(photos, analyser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("busts")
    return cropped(photos, folder, analyser, CropWish("bust", "1:1")), folder


def rows(images):
    return {row["source"]: row for row in images.table.iter_rows(named=True)}


def test_a_crop_is_the_pixels_of_its_box(busts, photos):
    images, _folder = busts
    table = rows(images)
    for name in ("half0.png", "half1.png", "half2.png"):
        row = table[name]
        left, top, right, bottom = row["crop_box"]
        original = cv2.imread(str(photos / name))
        crop = cv2.imread(str(images.root / row["path"]))
        assert np.array_equal(crop, original[top:bottom, left:right])
        assert (row["width"], row["height"]) == (right - left, bottom - top)
        assert abs((right - left) - (bottom - top)) <= 1
        assert row["crop_scale"] == 1
        record = crop_record(images.root / row["path"])
        data = (images.root / row["path"]).read_bytes()
        assert cleaned(data) == data
        assert (record.source, record.source_hash) == (name, row["crop_source_hash"])
    assert table["bust1.png"]["caption"] == "char1 at home"


def test_what_has_no_crop_says_why_and_the_rest_is_left_to_be_judged(busts):
    images, _ = busts
    table = rows(images)
    assert table["group.png"]["crop_box"] is None
    assert table["place.png"]["rejection"] is None
    assert table["broken.png"]["rejection"] == "unreadable"
    count = sum(row["crop_box"] is not None for row in table.values())
    assert f"{count} of 8 images cropped to bust at 1:1." in images.notes
    assert any("2 left as they are" in note for note in images.notes)
    assert any("less than 512 pixels" in note for note in images.notes)


def test_an_image_without_its_crop_is_kept_whole_or_rejected(photos, analyser, tmp_path):
    whole = rows(cropped(photos, tmp_path, analyser, CropWish("full")))["half0.png"]
    assert (whole["rejection"], whole["crop_box"]) == (None, None)
    assert "full body at 1:2" in whole["crop_note"]
    strict = rows(cropped(photos, tmp_path, analyser, CropWish("full", reject=True)))
    assert strict["half0.png"]["rejection"] == "no_crop"
    assert strict["half0.png"]["rejection_detail"] == whole["crop_note"]
    assert strict["place.png"]["rejection"] is None


def test_small_crops_are_enlarged_only_where_that_is_asked(photos, analyser, tmp_path):
    small = cropped(photos, tmp_path, analyser, CropWish("bust", minimum_side=200))
    assert all(row["crop_box"] is None for row in rows(small).values())
    assert any("the crop would be too small" in note for note in small.notes)
    large = cropped(photos, tmp_path, analyser, CropWish("bust", minimum_side=200, upscale=True))
    made = [row for row in rows(large).values() if row["crop_box"]]
    assert made
    for row in made:
        assert min(row["width"], row["height"]) == 200
        assert row["crop_scale"] > 1
        with Image.open(large.root / row["path"]) as image:
            assert image.size == (row["width"], row["height"])
    assert f"{len(made)} crops enlarged to 200 pixels." in large.notes


def test_of_several_faces_the_largest_is_cropped(photos, analyser, tmp_path):
    images = cropped(photos, tmp_path, analyser, CropWish("close-up"), choice="largest")
    assert rows(images)["group.png"]["crop_box"] is not None


def test_orientation_profile_and_transparency_are_as_in_the_original(analyser, tmp_path):
    upright = Image.fromarray(portrait(10, framing="half body")[..., ::-1])
    folder = tmp_path / "in"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    wide = ImageCms.profileToProfile(
        upright, ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(*DISPLAY_P3))),
    )  # fmt: skip
    wide.save(folder / "wide.png", icc_profile=rgb_profile(*DISPLAY_P3))
    clear = upright.convert("RGBA")
    alpha = Image.new("L", upright.size, 255)
    alpha.paste(0, (0, 0, upright.width, 20))
    clear.putalpha(alpha)
    clear.save(folder / "clear.png")
    images = cropped(folder, tmp_path, analyser, CropWish("close-up"))
    for name, row in rows(images).items():
        expected = (clear if name == "clear.png" else upright).crop(row["crop_box"])
        with Image.open(images.root / row["path"]) as crop:
            assert crop.mode == expected.mode
            assert "icc_profile" not in crop.info
            off = np.abs(np.asarray(crop).astype(int) - np.asarray(expected))
        assert off.max() <= (3 if name == "wide.png" else 0), name


def test_crops_that_are_there_are_not_cut_again(photos, analyser, busts):
    images, folder = busts
    paths = [images.root / row["path"] for row in rows(images).values() if row["crop_box"]]
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = cropped(photos, folder, analyser, CropWish("bust", "1:1"))
    assert again.table.equals(images.table)
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_a_damaged_crop_is_cut_again_and_that_is_noted(photos, analyser, busts):
    images, folder = busts
    path = next(images.root / row["path"] for row in rows(images).values() if row["crop_box"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    with collected_damage() as found:
        again = cropped(photos, folder, analyser, CropWish("bust", "1:1"))
    assert path.read_bytes() == whole
    assert again.table.equals(images.table)
    assert [(one.what, one.count) for one in summary(found)] == [("crops", 1)]


def curate(photos, output, *options):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["curate", str(photos), "--output", str(output), "--clusters", "1",
                     "--total", "9", "--min-quality", "0", "--min-confidence", "0.3",
                     "--json", *options])  # fmt: skip
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def exported(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("dataset") / "set"
    said = curate(photos, output, "--crop", "bust", "--crop-aspect", "1:1", "--max-side", "64")
    return output, said


def test_the_dataset_holds_the_crops_and_where_they_are_from(exported, photos):
    output, said = exported
    crops = 0
    for image, metadata in CuratedDataset(output):
        if "crop_box" not in metadata:
            continue
        crops += 1
        _left, _top, _right, _bottom = metadata["crop_box"]
        assert abs(image.width - image.height) <= 1
        assert max(image.size) == 64
        # The face was measured on the crop, and scaled with it.
        x0, y0, x1, y1 = metadata["face_box"]
        assert x0 >= -1
        assert x1 <= image.width + 1
        assert y1 - y0 > 0.3 * image.height
        assert metadata["source"].endswith(".png")
        assert metadata["crop_source_hash"] != metadata["hash"]
    assert crops >= 4
    table = pl.read_parquet(output / "provenance.parquet")
    assert set(table["path"]) == {path.name for path in photos.iterdir() if path.suffix == ".png"}
    assert table["crop_box"].drop_nulls().len() >= crops
    assert "[crop]" in (output / "recipe.toml").read_text()
    assert any("cropped to bust" in note for note in said["notes"])


def test_a_crop_is_made_again_from_its_original(exported, photos, tmp_path):
    name, _ = next(
        (name, values)
        for name, values in json.loads((exported[0] / "metadata.json").read_text()).items()
        if "crop_box" in values
    )
    file = exported[0] / name
    result = reproduce(file, source=photos)
    assert result.identical
    with pytest.raises(OriginalNotFoundError, match="--source"):
        reproduce(file)
    (tmp_path / "other").mkdir()
    Image.new("RGB", (128, 128)).save(tmp_path / "other" / name)
    with pytest.raises(OriginalNotFoundError, match="byte for byte"):
        reproduce(file, source=tmp_path / "other")


def test_a_project_says_what_crops_shall_be():
    asked = {"source": "x", "crop": {"framing": "half"}}
    assert from_mapping(asked, "p").crop.aspect is None
    for crop, message in (
        ({"framing": "half", "aspect": "wide"}, "no aspect ratio"),
        ({"framing": "half", "upscale": True}, "minimum_side"),
        ({"aspect": "1:1"}, "crop.framing"),
    ):
        with pytest.raises(ProjectFileError, match=message):
            from_mapping({"source": "x", "crop": crop}, "p")


@pytest.mark.slow
def test_a_crop_of_a_generated_image_is_made_again_from_nothing(tmp_path):
    text = PROJECT.replace("seeds = [966983, 966984]", "seeds = [966983]")
    text = text.replace("minimum = 0.4", "minimum = 0.0").replace("count = 2", "count = 1")
    text = text.replace("total = 4", "total = 2").replace('quotas = ["seed=2"]', "")
    text = text.replace("minimum_confidence = 0.5", "minimum_confidence = 0.2")
    text += '\n[crop]\nframing = "close-up"\naspect = "1:1"\n'
    made = pipeline.run(project.parse(text), tmp_path)
    assert "cropped to close-up" in made.crops[0]
    folder = made.exported.folder
    names = [
        name
        for name, values in json.loads((folder / "metadata.json").read_text()).items()
        if values.get("crop_box")
    ]
    assert names
    for name in names:
        assert reproduce(folder / name).identical
    results = regenerated(read_evidence(folder), "all")
    assert {again.name: again.identical for again in results if again.name in names} == (
        dict.fromkeys(names, True)
    )
