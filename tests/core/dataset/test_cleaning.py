"""Nothing but pixels is published: of every kind of file, and the pixels are the same."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from character_curator.dataset import CuratedDataset, export
from character_curator.dataset import images as dataset_images
from character_curator.dataset.cleaning import cleaned
from character_curator.dataset.images import LookError
from character_curator.generation.png import encode
from character_curator.imageset import ImageSet
from tests.support.color_profiles import DISPLAY_P3, rgb_profile
from tests.support.images import drawing, png_bytes

SECRET = b"Nikon 1234567 Jane Doe"


def private_exif():
    exif = Image.Exif()
    exif[0x010F] = SECRET.decode()
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    exif.get_ifd(0x8769)[0xA431] = "SERIAL99"
    return exif


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dirty(kind, **options):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    more = {"pnginfo": info} if kind == "PNG" else {"comment": SECRET} if kind == "JPEG" else {}
    data = encoded(drawing(1), kind, exif=private_exif(), **more, **options)
    return data + (SECRET if kind != "WEBP" else b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_the_pixels_stay_and_nothing_else(kind, options):
    data = dirty(kind, **options)
    assert SECRET in data
    clean = cleaned(data)
    for word in (SECRET, b"Exif", b"SERIAL99", b"workflow", b"adobe.xmp"):
        assert word not in clean
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(clean)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert not after.getexif()
        assert after.format == kind
    assert cleaned(clean) == clean
    # Without the end that was put behind the file.
    assert cleaned(data[: len(data) // 2]) is None or kind == "WEBP"


def test_how_this_program_made_an_image_stays():
    own = png_bytes(drawing(1), character_curator='{"seed": 1}', prompt="{}", workflow="{}")
    assert cleaned(own) == own
    other = png_bytes(drawing(1), prompt="{}", workflow="{}")
    assert b"workflow" not in cleaned(other)


@pytest.mark.parametrize("prompt", ["portrait of a woman", "一位女士的肖像"])
def test_what_generation_writes_is_published_as_it_is(prompt):
    record = {"prompt": prompt, "noise_seed": 7, "settings": {"steps": 20, "guidance": 5.0}}
    made = encode(np.asarray(drawing(1).convert("RGB")), record, {"workflow": "{}"})
    assert cleaned(made) == made
    with Image.open(io.BytesIO(made)) as image:
        assert image.text["parameters"].startswith(prompt)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"])
def test_what_is_not_whole_is_left_to_be_converted(data):
    assert cleaned(data) is None


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP")):
        (folder / name).write_bytes(dirty(kind))
    encoded_twice = encoded(drawing(4), "JPEG", quality=90)
    (folder / "clean.jpg").write_bytes(cleaned(encoded_twice))
    drawing(5).save(folder / "clean.png")
    drawing(6).save(folder / "p3.jpg", icc_profile=rgb_profile(*DISPLAY_P3), quality=95)
    return folder


def test_no_exported_file_holds_anything_private(raw, tmp_path):
    done = export(ImageSet.from_folder(raw), tmp_path / "out", name="x", report=False)
    assert (done.linked, done.cleaned, done.converted) == (1, 1, 4)
    for path in done.folder.iterdir():
        assert not any(word in path.read_bytes() for word in (SECRET, b"SERIAL99")), path
    by_source = {m["source"]: m for _, m in CuratedDataset(done.folder)}
    assert by_source["a.png"]["source_hash"] != by_source["a.png"]["hash"]
    assert "source_hash" not in by_source["clean.png"]


def test_formats_are_kept_if_asked_where_that_shows_the_same(raw, tmp_path, hugging_face):
    done = export(ImageSet.from_folder(raw), tmp_path / "out", name="x", keep_formats=True)
    assert sorted(p.name for p in done.folder.glob("*.*g")) == [
        "a.png", "b.jpg", "clean.jpg", "clean~" + clash("clean.png") + ".png", "p3.png",
    ]  # fmt: skip
    assert (done.folder / "c.webp").is_file()
    assert (done.folder / "clean.jpg").samefile(raw / "clean.jpg")
    assert not any(SECRET in p.read_bytes() for p in done.folder.iterdir())
    assert len(CuratedDataset(done.folder)) == 6
    assert len(hugging_face(str(done.folder))["train"]) == 6
    assert "JPEG 2" in (done.folder / "README.md").read_text()


def clash(path):
    import hashlib

    return hashlib.sha256(path.encode()).hexdigest()[:8]


def test_a_second_export_encodes_nothing_again(raw, tmp_path, monkeypatch):
    images = ImageSet.from_folder(raw)
    first = export(images, tmp_path / "out", name="x")
    made = []
    real = dataset_images._converted
    monkeypatch.setattr(
        dataset_images, "_converted", lambda *a: (made.append(a[0].name), real(*a))[1]
    )
    again = export(images, tmp_path / "out", name="x")
    assert (again.unchanged, again.reused, made) == (True, first.converted, [])
    other = export(images, tmp_path / "out", name="x", captions="trigger", trigger="zoe")
    assert (other.version, other.reused, made) == (2, 4, [])
    (tmp_path / "out" / "b.png").write_bytes(b"edited")
    mended = export(images, tmp_path / "out", name="y")
    assert (mended.reused, made) == (3, ["b.jpg"])
    smaller = export(images, tmp_path / "out", name="y", max_side=32)
    assert (smaller.reused, smaller.converted) == (0, 6)


def test_a_longest_side_scales_images_and_boxes(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    drawing(1, 200).save(raw / "large.png")
    drawing(2, 60).save(raw / "small.png")
    images = ImageSet.from_folder(raw)
    import polars as pl

    boxes = pl.Series("face_box", [[20.0, 40.0, 100.0, 120.0]] * 2)
    done = export(images.with_columns(boxes), tmp_path / "out", name="x", max_side=100)
    known = json.loads((done.folder / "metadata.json").read_text())
    assert (known["large.png"]["width"], known["large.png"]["height"]) == (100, 100)
    assert known["large.png"]["face_box"] == [10.0, 20.0, 50.0, 60.0]
    assert known["small.png"]["width"] == 60
    assert (done.folder / "small.png").samefile(raw / "small.png")


def sprite():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[10:30, 10:30] = (200, 30, 40, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("options", "corner"),
    [
        ({}, (255, 255, 255)),
        ({"background": "gray"}, (128, 128, 128)),
        ({"background": "#102030"}, (16, 32, 48)),
        ({"alpha": "mask"}, (255, 255, 255, 0)),
        ({"alpha": "mask", "background": "black"}, (0, 0, 0, 0)),
    ],
)
def test_hidden_colors_are_neither_published_nor_trained_on(tmp_path, options, corner):
    raw = tmp_path / "raw"
    raw.mkdir()
    sprite().save(raw / "a.png")
    done = export(ImageSet.from_folder(raw), tmp_path / "out", name="x", **options)
    with Image.open(done.folder / "a.png") as image:
        assert image.getpixel((0, 0)) == corner
        assert image.getpixel((20, 20))[:3] == (200, 30, 40)
    masked = "alpha_mask = true" in (done.folder / "dataset.toml").read_text()
    assert masked == (options.get("alpha") == "mask")


def test_a_background_that_is_no_color(tmp_path):
    drawing(1).save(tmp_path / "a.png")
    with pytest.raises(LookError, match="'nothing' is no color"):
        export(ImageSet.from_folder(tmp_path), tmp_path / "out", name="x", background="nothing")
