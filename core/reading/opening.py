"""Open an image of any format with Pillow, however large, and see it as a browser shows it."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..plain_files import plain_bytes
from .color import WHITE, on_background, to_srgb
from .kinds import known_formats

ORIENTATION = 0x0112
"""The number in EXIF of how an image is to be turned."""

MAX_PIXELS = 100_000_000
"""The most pixels that are decoded of one image; 10,000 x 10,000 passes."""

MAX_SOURCE_PIXELS = 400_000_000
"""The most pixels that an image may claim which can be decoded at a fraction of its size."""

MAX_BYTES = MAX_PIXELS * 8
"""The largest file that is read as an image."""

REDUCIBLE = frozenset({"JPEG", "MPO", "JPEG2000", "TIFF"})
"""Formats, in Pillow's names, of which a fraction of the size can be decoded."""

DEEP_MODES = ("I", "F")
"""How the names of Pillow's modes with more than 8 bits a channel begin."""

_REDUCED_PAGE, _SUBFILE_TYPE = 1, 254
_MOST_PAGES = 32
_MOST_LEVELS = 5


def decoding_errors() -> tuple[type[Exception], ...]:
    """Return what Pillow and its plug-ins raise on damaged files: more than they document."""
    from PIL import Image

    return (
        OSError, ValueError, SyntaxError, MemoryError, EOFError, TypeError, LookupError,
        AttributeError, ArithmeticError, RuntimeError, AssertionError, BufferError, SystemError,
        struct.error, zlib.error, Image.DecompressionBombError,
    )  # fmt: skip


class DamagedError(ValueError):
    """An image cannot be decoded as a whole."""


@contextmanager
def decoding() -> Iterator[None]:
    """Let whatever Pillow raises of a damaged image be one error.

    Raises:
        DamagedError: In the place of any of :func:`decoding_errors`, other than those of getting
            at a file and of too little memory.
    """
    try:
        yield
    except MemoryError:
        raise
    except decoding_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedError(str(error) or type(error).__name__) from error


class NotPlainError(OSError):
    """What lies under a name is no file: a folder, a pipe, a device, a link that leads nowhere."""

    def __init__(self) -> None:
        super().__init__("a link that leads nowhere, or to itself, or not a plain file")


def check_plain(path: Path) -> None:
    """Insist that a name stands for a plain file: opening a pipe may wait for ever.

    Raises:
        NotPlainError: It stands for something else.
        OSError: There is nothing under it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        if path.is_symlink():
            raise NotPlainError from None
        raise
    if not stat.S_ISREG(mode):
        raise NotPlainError


class TooLargeError(ValueError):
    """An image has more pixels than are decoded, and cannot be decoded at a fraction."""

    def __init__(self, size: tuple[int, int], limit: int) -> None:
        super().__init__(f"{size[0]} x {size[1]} pixels are more than the limit of {limit:,}")


@contextmanager
def opened(source: Path | bytes) -> Iterator[Any]:
    """Open an image, of which only the header is read.

    Args:
        source: A file, or its bytes.

    Raises:
        OSError, ValueError, SyntaxError: It is no image, or a damaged one; of a format that
            :data:`.kinds.FORMATS` does not name, or no plain file.
        PIL.Image.DecompressionBombError: It claims more pixels than a bomb needs, and is of a
            format that cannot be decoded at a fraction of its size.
    """
    from PIL import Image

    if isinstance(source, Path):
        check_plain(source)
    data = io.BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image: Any = Image.open(data, formats=known_formats())
        except Image.DecompressionBombError:
            image = _reducible(source)
            if image is None:
                raise
    with image:
        yield image


def _reducible(source: Path | bytes) -> Any | None:
    """Open an image of a format that can be decoded at a fraction of its size."""
    from PIL import Jpeg2KImagePlugin, JpegImagePlugin, TiffImagePlugin

    for kind in (
        JpegImagePlugin.JpegImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        TiffImagePlugin.TiffImageFile,
    ):
        data = io.BytesIO(source) if isinstance(source, bytes) else io.BytesIO(plain_bytes(source))
        try:
            return kind(data)
        except decoding_errors():
            continue
    return None


def reduce_to(image: Any, most: int = MAX_PIXELS) -> int:
    """Let an opened image be decoded at a fraction of its size, if it has too many pixels.

    A JPEG is decoded at a half, a quarter or an eighth (draft mode), a JPEG 2000 at a lower level,
    a TIFF pyramid at the first page that is small enough.

    Args:
        image: From :func:`opened`, not loaded yet.
        most: Pixels that may be decoded.

    Returns:
        By how much its sides are divided, rounded: 1 where nothing was to be done.

    Raises:
        TooLargeError: It has too many pixels, and cannot be reduced.
    """
    width, height = image.size
    if width * height <= most:
        return 1
    if width * height > MAX_SOURCE_PIXELS:
        raise TooLargeError(image.size, most)
    factor = next((2**n for n in range(1, _MOST_LEVELS + 1) if width * height / 4**n <= most), 0)
    if image.format in ("JPEG", "MPO") and factor in (2, 4, 8):
        image.draft("RGB", (width // factor, height // factor))
    elif image.format == "JPEG2000" and factor:
        image.reduce = factor.bit_length() - 1
        return factor
    elif image.format == "TIFF":
        _seek_page(image, most)
    if image.size[0] * image.size[1] > most:
        raise TooLargeError((width, height), most)
    return max(1, round(width / image.size[0]))


def _seek_page(image: Any, most: int) -> None:
    """Go to the first page of a TIFF that is a smaller copy of the first."""
    width, height = image.size
    for page in range(1, min(getattr(image, "n_frames", 1), _MOST_PAGES)):
        image.seek(page)
        small, low = image.size
        is_copy = image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED_PAGE
        if is_copy and small * low <= most and abs(small * height / (low * width) - 1) < 0.02:
            return
    image.seek(0)


def upright(image: Any, most: int = MAX_PIXELS) -> Any:
    """Load an opened image: upright, 8 bits a channel, in sRGB, mode L, LA, RGB or RGBA.

    Args:
        image: From :func:`opened`; of an animation the first frame is taken.
        most: Pixels that may be decoded, see :func:`reduce_to`.

    Raises:
        TooLargeError: It has too many pixels.
        OSError, ValueError, SyntaxError, MemoryError: It is damaged.
    """
    to_first_frame(image)
    reduce_to(image, most)
    return to_srgb(to_eight_bits(image))


def upright_size(size: tuple[int, int], exif: Any) -> tuple[int, int]:
    """Return width and height of an image as it is seen: upright, as its EXIF says.

    Args:
        size: As it is stored.
        exif: Pillow's ``image.getexif()``; ``None`` for none.
    """
    lies = exif is not None and exif.get(ORIENTATION) in (5, 6, 7, 8)
    return size[::-1] if lies else size


def to_first_frame(image: Any) -> None:
    """Go to the first frame of an opened image; of a PSD stay at the whole one."""
    with suppress(EOFError):  # Pillow numbers the layers of a PSD from 1, and knows no 0
        image.seek(0)


def to_eight_bits(image: Any) -> Any:
    """Return a PIL image upright, of 8 bits a channel: as it is, or in mode L, RGB or RGBA."""
    from PIL import ImageOps

    image.load()
    turned = ImageOps.exif_transpose(image)
    mode = turned.mode
    if mode.startswith(DEEP_MODES):
        import numpy as np
        from PIL import Image

        # What is no number is black, and infinitely bright is white.
        values = np.nan_to_num(np.asarray(turned, dtype=np.float64))
        brightest = float(values.max(initial=0.0))
        if mode.startswith("I"):
            # Pillow would clip 16-bit greys to white; scale them (65535 to 255) instead, and those
            # of 32 bits likewise.
            scale = 257.0 if brightest <= 0xFFFF else 0xFFFFFFFF / 255
        else:  # floats up to 1, as most programs write them, or up to 255
            scale = 1 / 255 if brightest <= 1 else 1.0
        grey = Image.fromarray(np.clip(np.rint(values / scale), 0, 255).astype(np.uint8))
        if "icc_profile" in turned.info:
            grey.info["icc_profile"] = turned.info["icc_profile"]
        return grey
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        if mode in ("L", "RGB") and "transparency" in turned.info:
            return turned.convert(mode + "A") if mode == "L" else turned.convert("RGBA")
        return turned
    if mode == "1":
        return turned.convert("L")
    if mode == "PA" or "transparency" in turned.info:
        return turned.convert("RGBA")
    return turned.convert("RGB")


def as_seen(image: Any, background: tuple[int, int, int] = WHITE, most: int = MAX_PIXELS) -> Any:
    """Return an opened image as it is seen on a color: upright, in sRGB, mode L or RGB.

    Raises:
        TooLargeError: It has too many pixels.
        OSError, ValueError, SyntaxError, MemoryError: It is damaged.
    """
    return on_background(upright(image, most), background)
