"""Decoding: the pixels of cv2.imread, or a reason."""

import io
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from character_curator.analysis.decoding import (
    UnreadableImageError,
    _decode_with_pillow,
    decode_ahead,
    read_image,
)

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


IMAGE = Image.fromarray(COLOR)
KINDS = {
    "rgb.png": encoded(IMAGE, "PNG"),
    "sixteen bits.png": encoded(
        Image.fromarray(RNG.integers(0, 65536, (40, 56), dtype=np.uint16)), "PNG"
    ),
    "grey.png": encoded(IMAGE.convert("L"), "PNG"),
    "opaque.png": encoded(IMAGE.convert("RGBA"), "PNG"),
    "palette.png": encoded(IMAGE.quantize(16), "PNG"),
    "one pixel.png": encoded(IMAGE.crop((0, 0, 1, 1)), "PNG"),
    "rgb.jpg": encoded(IMAGE, "JPEG"),
    "grey.jpg": encoded(IMAGE.convert("L"), "JPEG"),
    "cmyk.jpg": encoded(IMAGE.convert("CMYK"), "JPEG"),
    "turned.jpg": encoded(IMAGE, "JPEG", exif=turned()),
    "progressive.jpg": encoded(IMAGE, "JPEG", progressive=True),
    "lossless.webp": encoded(IMAGE, "WEBP", lossless=True),
    "rgb.bmp": encoded(IMAGE, "BMP"),
    "rgb.tif": encoded(IMAGE, "TIFF"),
    "ключ 🎨 with spaces.png": encoded(IMAGE, "PNG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_those_of_imread(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    expected = cv2.imread(str(path))
    found = read_image(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_exif_orientation_is_applied(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(KINDS["turned.jpg"])
    assert read_image(tmp_path / "turned.jpg").shape == (56, 40, 3)


def test_an_animation_gives_its_first_frame(tmp_path):
    data = encoded(IMAGE, "WEBP", save_all=True, append_images=[IMAGE.rotate(180)], lossless=True)
    (tmp_path / "moving.webp").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "moving.webp"), COLOR[..., ::-1])


@pytest.mark.parametrize("name", ["rgb.png", "turned.jpg", "opaque.png", "palette.png"])
def test_pillow_fills_in_with_the_same_pixels(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name])
    reason, pixels = _decode_with_pillow(KINDS[name])
    assert reason == ""
    np.testing.assert_array_equal(pixels, cv2.imread(str(tmp_path / name)))


def huge_header(width=20_000, height=20_000):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header))


PNG, JPEG = KINDS["rgb.png"], KINDS["rgb.jpg"]
flipped = bytearray(PNG)
flipped[len(PNG) // 2] ^= 0xFF
BROKEN = {
    "half.png": (PNG[: len(PNG) // 2], "truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "header only.png": (PNG[:33], "truncated"),
    "half.webp": (KINDS["lossless.webp"][:-400], "damaged"),
    "flipped byte.png": (bytes(flipped), "damaged"),
    "empty.png": (b"", "empty"),
    "text.png": (b"I am no image.\n" * 9, "not an image"),
    "huge.png": (huge_header(), "20000 x 20000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_says_how(tmp_path, name):
    data, word = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableImageError, match=word) as caught:
        read_image(tmp_path / name)
    assert caught.value.lasting
    assert name in str(caught.value)


def test_the_limit_is_the_callers(tmp_path):
    (tmp_path / "rgb.png").write_bytes(PNG)
    assert read_image(tmp_path / "rgb.png", max_pixels=40 * 56).shape == (40, 56, 3)
    with pytest.raises(UnreadableImageError, match="limit of 2,239"):
        read_image(tmp_path / "rgb.png", max_pixels=40 * 56 - 1)


def test_what_cannot_be_reached_may_be_tried_again(tmp_path):
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / "absent.png", tmp_path):
        with pytest.raises(UnreadableImageError) as caught:
            read_image(path)
        assert not caught.value.lasting


def test_a_locked_file_is_unreadable(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(PNG)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file")
    with pytest.raises(UnreadableImageError, match="permission"):
        read_image(path)


def test_images_come_in_order_and_bad_ones_in_their_place(tmp_path):
    paths = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        image = np.full((4, 4, 3), number, np.uint8)
        data = encoded(Image.fromarray(image), "PNG")
        path.write_bytes(b"" if number % 7 == 3 else data)
        paths.append(path)
    found = list(decode_ahead(paths, lambda image: int(image[0, 0, 0]), workers=3))
    assert [item.index for item in found] == list(range(20))
    for number, item in enumerate(found):
        if number % 7 == 3:
            assert item.image is None
            assert "empty" in item.reason
        else:
            assert item.found == number


@pytest.mark.parametrize(("in_flight", "most"), [(10**9, 9), (40 * 56 * 3, 3), (1, 1)])
def test_no_more_wait_than_allowed(tmp_path, in_flight, most):
    path = tmp_path / "rgb.png"
    path.write_bytes(PNG)
    lock, decoded, peaks, consumed = threading.Lock(), [0], [0], 0

    def count(image):
        with lock:
            decoded[0] += 1
        return None

    stream = decode_ahead(
        [path] * 60, count, sizes=[40 * 56] * 60, workers=3, pixels_in_flight=in_flight
    )
    for _ in stream:
        with lock:
            peaks.append(decoded[0] - consumed)
        consumed += 1
    assert consumed == 60
    assert max(peaks) <= most


def test_a_consumer_that_stops_leaves_no_thread(tmp_path):
    path = tmp_path / "rgb.png"
    path.write_bytes(PNG)
    stream = decode_ahead([path] * 1000, lambda image: None, workers=2)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_errors_of_the_function_are_raised(tmp_path):
    (tmp_path / "rgb.png").write_bytes(PNG)
    with pytest.raises(ZeroDivisionError):
        list(decode_ahead([tmp_path / "rgb.png"], lambda image: 1 // 0))
