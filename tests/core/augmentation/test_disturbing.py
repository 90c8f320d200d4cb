"""Disturbed copies: drawn from seeds, said in records, made again to the byte."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from character_curator.augmentation.disturbing import DisturbanceWish, disturb_images
from character_curator.dataset import export
from character_curator.generation.reproduce import OriginalNotFoundError, reproduce
from character_curator.imageset import ImageSet
from character_curator.reading.disturbances import (
    KINDS,
    Disturbance,
    DisturbanceError,
    DisturbanceRecord,
    disturbance_record,
    disturbed,
    draw,
    rgb_pixels,
)
from character_curator.rejection_reasons import Rejection
from tests.support.commands import draw_people


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("people") / "photos", 3)


def texture(width=96, height=80):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def in_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_every_copy_comes_again_from_its_record_alone(photos, tmp_path):
    images = ImageSet.from_folder(photos)
    made = disturb_images(images, tmp_path / "copies", DisturbanceWish(count=16))
    copies = made.filter(pl.col("kind") == "disturbed")
    assert sorted(copies.table["disturbance"]) == sorted(KINDS * 4)
    sources = {row["hash"]: path for row, path in zip(
        images.table.iter_rows(named=True), images.paths(), strict=True)}  # fmt: skip
    for path in copies.paths():
        record = disturbance_record(path)
        undisturbed = rgb_pixels(sources[record.source_hash])
        again = disturbed(undisturbed, record.disturbance)
        assert again.tobytes() == rgb_pixels(path).tobytes()
        assert not np.array_equal(again, undisturbed)
        found = reproduce(path, source=photos)
        assert (found.identical, found.request) == (True, None)
    assert made.notes[-1].startswith("16 disturbed copies of 4 of 4 images: blur 4")


def test_images_stay_as_they_are_and_copies_differ_by_seed(photos, tmp_path):
    before = in_bytes(photos)
    images = ImageSet.from_folder(photos)
    one = disturb_images(images, tmp_path / "one", DisturbanceWish(seed=1))
    again = disturb_images(images, tmp_path / "again", DisturbanceWish(seed=1))
    other = disturb_images(images, tmp_path / "other", DisturbanceWish(seed=2))
    assert in_bytes(photos) == before
    assert one.table["hash"][:4].to_list() == images.table["hash"].to_list()
    assert in_bytes(tmp_path / "one") == in_bytes(tmp_path / "again")
    assert one.table["hash"][4:].to_list() == again.table["hash"][4:].to_list()
    assert not set(other.table["hash"][4:]) & set(one.table["hash"][4:])
    assert len(in_bytes(tmp_path / "one")) == 4


def test_the_order_of_images_does_not_matter(photos, tmp_path):
    images = ImageSet.from_folder(photos)
    one = disturb_images(images, tmp_path / "one", DisturbanceWish(count=6))
    backwards = ImageSet(images.table.reverse(), images.root)
    other = disturb_images(backwards, tmp_path / "other", DisturbanceWish(count=6))
    assert set(one.table["hash"]) == set(other.table["hash"])


def test_what_is_there_is_kept_and_what_is_damaged_made_again(photos, tmp_path):
    images, wish = ImageSet.from_folder(photos), DisturbanceWish()
    disturb_images(images, tmp_path, wish)
    before = in_bytes(tmp_path)
    kept, cut, altered, gone = sorted(tmp_path.glob("*.png"))
    old = kept.stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:-900])
    with Image.open(altered) as image:
        image.load()
        image.putpixel((0, 0), (1, 2, 3))
        info = image.info
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, text in info.items():
        texts.add_text(key, text)
    image.save(altered, pnginfo=texts)
    gone.unlink()
    disturb_images(images, tmp_path, wish)
    assert in_bytes(tmp_path) == before
    assert kept.stat().st_mtime_ns == old


def test_rejected_and_disturbed_images_are_not_disturbed(photos, tmp_path):
    images = ImageSet.from_folder(photos)
    images = images.reject(np.array([True, False, False, False]), Rejection.NO_FACE, "none")
    once = disturb_images(images, tmp_path, DisturbanceWish(("blur",)))
    assert len(once) == 7
    twice = disturb_images(once, tmp_path, DisturbanceWish(("noise",)))
    assert sorted(twice.table["disturbance"].drop_nulls()) == ["blur"] * 3 + ["noise"] * 3
    with pytest.raises(DisturbanceError, match="3 at most"):
        disturb_images(images, tmp_path, DisturbanceWish(("blur",), count=4))


def test_a_folder_of_copies_is_not_taken_for_photographs(photos, tmp_path):
    disturb_images(ImageSet.from_folder(photos), tmp_path / "c", DisturbanceWish(("noise",)))
    read = ImageSet.from_folder(tmp_path / "c")
    assert set(read.table["kind"]) == {"disturbed"}
    assert set(read.table["disturbance"]) == {"noise"}
    assert set(read.table["disturbance_source"]) == set(ImageSet.from_folder(photos).table["hash"])


def test_the_dataset_says_what_disturbs_an_image(photos, tmp_path):
    images = ImageSet.from_folder(photos)
    made = disturb_images(images, tmp_path / "c", DisturbanceWish(seed=9))
    folder = export(made, tmp_path / "set", name="x", report=False).folder
    metadata = json.loads((folder / "metadata.json").read_text())
    told = {name: row["disturbance"] for name, row in metadata.items() if "disturbance" in row}
    assert sorted(row["kind"] for row in told.values()) == sorted(KINDS)
    for name, row in told.items():
        record = disturbance_record(folder / name)
        assert record.disturbance.as_mapping() == {
            key: row[key] for key in ("kind", "strength", "seed", "values")
        }
        assert metadata[name]["type"] == "disturbed"
        assert reproduce(folder / name, source=photos).identical
    with pytest.raises(OriginalNotFoundError, match="is a disturbed copy of"):
        reproduce(folder / name)


@pytest.mark.parametrize("kind", KINDS)
def test_more_strength_disturbs_more(kind):
    pixels = np.kron(texture(12, 10), np.ones((8, 8, 1), np.uint8))

    def harm(strength):
        drawn = [draw(kind, strength, seed, (96, 80)) for seed in range(12)]
        errors = [np.abs(pixels.astype(int) - disturbed(pixels, one)).mean() for one in drawn]
        return np.mean(errors)

    assert 0 < harm(0.0) < harm(0.5) < harm(1.0)


def test_a_patch_lies_on_the_face():
    face = (60.0, 8.0, 84.0, 40.0)
    for seed in range(30):
        left, top, right, bottom = draw("occlusion", 1.0, seed, (96, 80), face).values["box"]
        assert (60 <= left < right <= 86, 8 <= top < bottom <= 42) == (True, True)
        covered = (right - left) * (bottom - top) / (24 * 32)
        assert 0.3 < covered < 0.75


def test_a_blur_keeps_what_is_even_and_the_sum_of_the_rest():
    even = np.full((40, 50, 3), 77, np.uint8)
    step = np.where(np.arange(50)[None, :, None] < 25, 40, 200).astype(np.uint8)
    step = np.broadcast_to(step, (40, 50, 3)).copy()
    for seed in range(8):
        drawn = draw("blur", 1.0, seed, (50, 40))
        assert np.array_equal(disturbed(even, drawn), even)
        assert abs(disturbed(step, drawn).mean() - step.mean()) < 1.5


def test_noise_has_the_deviation_that_is_recorded():
    grey = np.full((128, 128, 3), 128, np.uint8)
    drawn = Disturbance("noise", 0.5, 0, {"deviation": 20.0, "colored": True, "seed": 4})
    noise = disturbed(grey, drawn).astype(float) - 128
    assert abs(noise.std() - 20) < 0.5
    assert abs(noise.mean()) < 0.5
    grey_noise = disturbed(grey, Disturbance("noise", 0.5, 0, {**drawn.values, "colored": False}))
    assert (grey_noise[..., 0] == grey_noise[..., 2]).all()


def test_pixels_are_those_of_every_machine():
    """Whole numbers all the way: these hashes hold wherever this runs (a JPEG's are libjpeg's)."""
    from character_curator.reading.disturbances import digest

    found = {kind: digest(disturbed(texture(), draw(kind, 0.5, 3, (96, 80))))[:16]
             for kind in KINDS[:3]}  # fmt: skip
    motion = Disturbance("blur", 0.5, 0, {"way": "motion", "length": 15, "angle": 30.0})
    found["motion"] = digest(disturbed(texture(), motion))[:16]
    assert found == {
        "occlusion": "3f15f7b2d339e18a",
        "blur": "4215af4bfe2f9da4",
        "noise": "68d6ff45d1dcfa83",
        "motion": "7fb870c0fdb6e901",
    }


@pytest.mark.parametrize(
    "faulty",
    [("blur", 1.5, 0), ("blur", 0.5, -1), ("fog", 0.5, 0), ("albumentations:Nothing", 0.5, 0)],
)
def test_what_cannot_be_drawn_is_said(faulty):
    with pytest.raises(DisturbanceError):
        draw(*faulty, (96, 80))


@pytest.mark.parametrize(
    "values",
    [{"way": "focus", "deviation": 1e9}, {"way": "motion", "length": 10**9, "angle": 0.0}],
)
def test_a_record_cannot_ask_for_more_memory_than_its_image(values):
    with pytest.raises(DisturbanceError, match="beyond the image"):
        disturbed(texture(), Disturbance("blur", 0.5, 0, values))


def test_a_transform_of_albumentations_comes_again():
    pytest.importorskip("albumentations")
    drawn = draw("albumentations:RandomFog", 0.5, 7, (96, 80))
    record = DisturbanceRecord(drawn, "a.png", "0" * 64, (96, 80), "")
    again = DisturbanceRecord.from_text(record.to_text()).disturbance
    one, other = disturbed(texture(), drawn), disturbed(texture(), again)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, texture())
    with pytest.raises(DisturbanceError, match="pixels and nothing else"):
        draw("albumentations:HorizontalFlip", 0.5, 7, (96, 80))


def test_altered_records_are_refused():
    assert DisturbanceRecord.from_text("{}") is None
    assert DisturbanceRecord.from_text(None) is None
    with pytest.raises(DisturbanceError, match="'t be made from"):
        disturbed(texture(), Disturbance("noise", 0.5, 0, {"deviation": "much"}))
    with pytest.raises(DisturbanceError, match="There is no disturbance"):
        disturbed(texture(), Disturbance("fog", 0.5, 0, {}))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 300), (3, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_for_a_line_of_pixels_can_be_made(size, kind):
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    for seed in range(20):
        for face in (None, (-9.0, -9.0, -2.0, -2.0), (500.0, 500.0, 600.0, 600.0)):
            drawn = draw(kind, seed / 19, seed, size, face)
            assert disturbed(pixels, drawn).shape == pixels.shape
