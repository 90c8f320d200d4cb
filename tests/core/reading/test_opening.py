"""Every format, color space and size as people see it, for all who read pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from character_curator.analysis.decoding import UnreadableImageError, read_image
from character_curator.imageset import ImageSet
from character_curator.reading import kinds, opening
from character_curator.reading.color import is_srgb, to_srgb
from character_curator.report.thumbnails import thumbnail
from tests.support.color_profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, rgb_profile
from tests.support.images import drawing

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(40, 200, (24, 32, 3), dtype=np.uint8)).resize((160, 120))


def saved(path, image, **options):
    image.save(path, **options)
    return path


def error(path, wanted=PHOTO):
    found = read_image(path)[..., ::-1].astype(int)
    assert found.shape == np.asarray(wanted).shape
    return np.abs(found - np.asarray(wanted)).mean()


def in_space(image, profile):
    """Return an sRGB image with its pixels in another color space, by LittleCMS."""
    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("primaries", "off"), [(DISPLAY_P3, 2), (ADOBE_RGB, 3), (PROPHOTO, 8)], ids=str
)
@pytest.mark.parametrize("end", ["jpg", "png", "webp", "tif"])
def test_pixels_are_converted_to_srgb(tmp_path, primaries, off, end):
    profile = rgb_profile(*primaries)
    other = in_space(PHOTO, profile)
    options = {"quality": 95, "subsampling": 0} if end == "jpg" else {}
    if end == "webp":
        options = {"lossless": True}
    path = saved(tmp_path / f"a.{end}", other, icc_profile=profile, **options)
    assert np.abs(np.asarray(other).astype(int) - np.asarray(PHOTO)).mean() > off
    assert error(path) < (2.5 if end == "jpg" else 1)
    small = np.asarray(thumbnail(path)).astype(int)
    assert np.abs(small - np.asarray(PHOTO)).mean() < (2.5 if end == "jpg" else 1)


def test_an_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path / "a.png", PHOTO, icc_profile=profile)
    assert is_srgb(profile, "RGB")
    assert error(path) == 0


@pytest.mark.parametrize("profile", [b"no profile", b""])
def test_a_damaged_profile_is_ignored(tmp_path, profile):
    assert error(saved(tmp_path / "a.png", PHOTO, icc_profile=profile or None)) == 0


def test_cmyk_without_a_fitting_profile_is_converted_plainly(tmp_path):
    press = PHOTO.convert("CMYK")
    press.info["icc_profile"] = rgb_profile(*DISPLAY_P3)
    assert to_srgb(press).mode == "RGB"
    assert "icc_profile" not in to_srgb(press).info
    assert error(saved(tmp_path / "a.jpg", PHOTO.convert("CMYK"), quality=95)) < 6


def sprite(color=(0, 255, 0)):
    """A disc whose transparent surroundings hide a color."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[..., :3] = color
    y, x = np.mgrid[:40, :40]
    disc = (x - 20) ** 2 + (y - 20) ** 2 < 100
    pixels[disc] = (200, 30, 40, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("end", ["png", "webp", "gif", "tif"])
def test_hidden_colors_are_not_seen(tmp_path, end):
    path = saved(tmp_path / f"a.{end}", sprite(), **({"lossless": True} if end == "webp" else {}))
    found = read_image(path)[..., ::-1]
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert np.abs(found[20, 20].astype(int) - (200, 30, 40)).max() < 3


@pytest.mark.parametrize("end", ["avif", "jfif", "jp2", "tga", "ppm", "heic", "jxl"])
def test_formats(tmp_path, end):
    if end == "heic":
        pytest.importorskip("pillow_heif")
    if end == "jxl":
        pytest.importorskip("pillow_jxl")
    kinds.add_plugins()
    path = tmp_path / f"a.{end}"
    smooth = drawing(3, 96)
    named = {"jfif": "JPEG", "heic": "HEIF", "jp2": "JPEG2000"}.get(end, end.upper())
    smooth.save(path, named, **({"quality": 95} if end in ("avif", "heic", "jfif", "jxl") else {}))
    assert error(path, smooth) < 4
    assert ImageSet.from_folder(tmp_path).table["rejection"].null_count() == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("brightest", [1.0, 255.0, 0xFFFF, 0xFFFFFFFF >> 1])
def test_floats_and_deep_greys_are_as_bright_as_they_are_meant(tmp_path, brightest):
    grey = np.asarray(PHOTO.convert("L"), dtype=np.float64)
    kind = np.float32 if brightest < 256 else np.int32
    values = (grey / 255 * min(brightest, 0xFFFF if kind is np.int32 else 255)).astype(kind)
    if brightest > 0xFFFF:
        values = (grey / 255 * brightest).astype(np.int64).astype(np.int32)
        grey = grey / 2  # half of what 32 bits without a sign hold
    place = saved(tmp_path / "deep.tif", Image.fromarray(values))
    assert np.abs(read_image(place)[..., 0].astype(float) - grey).mean() < 1


@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_black_and_no_warning(tmp_path):
    values = np.asarray(PHOTO.convert("L"), dtype=np.float32)
    values[0], values[1] = np.nan, np.inf
    found = read_image(saved(tmp_path / "nan.tif", Image.fromarray(values)))
    assert (found[0] == 0).all()
    assert (found[1] == 255).all()
    assert found[2:].min() >= 40


def test_a_format_without_its_library_says_what_to_install(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypnone" + bytes(40))
    images = ImageSet.from_folder(tmp_path)
    assert "pip install pillow-heif" in images.table["rejection_detail"][0]
    assert "1 image not read" in images.notes[0]
    with pytest.raises(UnreadableImageError, match="pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


# --- too many pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path, options):
    path = saved(tmp_path / "a.jpg", PHOTO.resize((1600, 1200)), quality=90, **options)
    assert read_image(path, max_pixels=200_000).shape == (300, 400, 3)
    assert read_image(path, max_pixels=1600 * 1200).shape == (1200, 1600, 3)
    with pytest.raises(UnreadableImageError, match="1600 x 1200 pixels are more than"):
        read_image(path, max_pixels=1_000)


def test_a_jpeg_of_more_pixels_than_pillow_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    path = saved(tmp_path / "a.jpg", PHOTO.resize((1600, 1200)), quality=90)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_image(path, max_pixels=500_000).shape == (600, 800, 3)
    assert ImageSet.from_folder(tmp_path).table["width"].to_list() == [1600]
    monkeypatch.setattr(opening, "MAX_SOURCE_PIXELS", 1_000_000)
    with pytest.raises(UnreadableImageError, match="more than the limit"):
        read_image(path, max_pixels=500_000)


def test_a_jpeg_2000_and_a_pyramid_of_tiff_pages(tmp_path):
    big = PHOTO.resize((800, 600))
    path = saved(tmp_path / "a.jp2", big)
    assert read_image(path, max_pixels=130_000).shape == (300, 400, 3)
    pages = [big.resize((400, 300)), big.resize((200, 150))]
    for page in pages:
        page.encoderinfo = {"tiffinfo": {254: 1}}
    big.save(tmp_path / "a.tif", save_all=True, append_images=pages)
    assert read_image(tmp_path / "a.tif", max_pixels=40_000).shape == (150, 200, 3)
    plain = saved(tmp_path / "b.tif", big)
    with pytest.raises(UnreadableImageError, match="800 x 600 pixels are more than"):
        read_image(plain, max_pixels=40_000)


@pytest.mark.slow
def test_a_hundred_and_eight_megapixels(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (12_000, 9_000), (10, 120, 200)))
    assert read_image(path).shape == (4_500, 6_000, 3)
