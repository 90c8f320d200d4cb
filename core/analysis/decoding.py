"""One decode per image: the pixels that every analyser shares.

Pixels are what ``cv2.imread`` gives (BGR, 8 bits, EXIF orientation applied), so that measurements
agree with code that reads files itself; except where that would not show what people see: a color
profile is applied, so that all pixels are sRGB, and what is transparent shows white instead of the
colors hidden in it. The header is read first: an image that claims more pixels than allowed is
decoded at a fraction of its size where its format can do that, and else refused before any memory
is taken for it.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..engines.cores import processors as processors
from ..errors import CuratorError
from ..plain_files import plain_bytes
from ..reading.color import is_srgb
from ..reading.kinds import missing_plugin
from ..reading.opening import (
    MAX_BYTES,
    REDUCIBLE,
    TooLargeError,
    as_seen,
    check_plain,
    decoding_errors,
    opened,
)
from ..reading.opening import MAX_PIXELS as MAX_PIXELS

Pixels = NDArray[np.uint8]
T = TypeVar("T")

PIXELS_IN_FLIGHT = 48_000_000
"""How many decoded pixels may wait at once. At about 20 bytes a pixel while the Laplacian is taken
that is 1 GB at most; a single image may be larger than that, and is then decoded alone."""

_BYTES_PER_PIXEL = 8
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_OF_OPENCV = frozenset({"PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF", "PPM"})
"""Formats, in Pillow's names, that every build of OpenCV reads as Pillow does, or not at all."""
CHANGED = "its bytes have changed since the folder was read"
_NO_IMAGE = "not an image, whatever its name says"
_ALPHA_TYPES = (4, 6)
"""PNG color types with an alpha channel."""


class UnreadableImageError(CuratorError):
    """A file that is not a whole image; ``reason`` says in what way.

    ``lasting`` tells whether the fault lies in the bytes (another try cannot help) or in getting
    at them.
    """

    def __init__(self, path: Path, reason: str, *, lasting: bool = True) -> None:
        self.reason = reason
        self.lasting = lasting
        super().__init__(f"{path} cannot be read: {reason}. Replace the file or take it away.")


def read_image(
    path: Path | str, max_pixels: int = MAX_PIXELS, expected: str | None = None
) -> Pixels:
    """Decode an image file.

    Args:
        path: PNG, JPEG, WebP, AVIF, HEIC, JPEG XL, JPEG 2000, BMP, TIFF, GIF and what else
            :data:`.reading.kinds.FORMATS` names; of an animation, the first frame is taken.
        max_pixels: Most pixels (width times height) that are decoded.
        expected: SHA-256 of the bytes that it must have; any unless given.

    Returns:
        BGR, uint8, shape ``(height, width, 3)``; equal to ``cv2.imread(path)`` wherever OpenCV can
        read the file, it is in sRGB and opaque; else Pillow's pixels, in sRGB and on white.

    Raises:
        UnreadableImageError: The file is absent, locked, empty, truncated, damaged, no image at
            all, too large, or not the expected one.
    """
    path = Path(path)
    data = _read_bytes(path, max_pixels)
    if expected is not None:
        _digest_of(path, data, expected)
    return _pixels_of(path, data, max_pixels)


def read_hashed(path: Path | str, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, str]:
    """Decode an image file and hash the very bytes that were decoded.

    Args:
        path: As of :func:`read_image`.
        max_pixels: As of :func:`read_image`.

    Returns:
        The pixels, and the SHA-256 of the bytes, in hexadecimal.

    Raises:
        UnreadableImageError: As of :func:`read_image`.
    """
    path = Path(path)
    data = _read_bytes(path, max_pixels)
    return _pixels_of(path, data, max_pixels), hashlib.sha256(data).hexdigest()


def _digest_of(path: Path, data: bytes, expected: str | None) -> str:
    """Hash the bytes that are decoded: what is measured is kept under no other file's name."""
    digest = hashlib.sha256(data).hexdigest()
    if expected is not None and digest != expected:
        raise UnreadableImageError(path, CHANGED, lasting=False)
    return digest


def _read_bytes(path: Path, max_pixels: int) -> bytes:
    try:
        check_plain(path)
        size = path.stat().st_size
        if size > max(max_pixels * _BYTES_PER_PIXEL, MAX_BYTES):
            raise UnreadableImageError(path, f"the file is too large ({size:,} bytes)")
        return plain_bytes(path)
    except OSError as error:
        raise UnreadableImageError(path, (error.strerror or str(error)).lower(),
                                   lasting=False) from error  # fmt: skip
    except ValueError as error:  # a NUL in the name
        raise UnreadableImageError(path, str(error), lasting=False) from error


def _pixels_of(path: Path, data: bytes, max_pixels: int) -> Pixels:
    reason, pixels = decode(data, max_pixels)
    if pixels is None:
        unknown = missing_plugin(path) if reason == _NO_IMAGE else ""
        raise UnreadableImageError(path, unknown or reason)
    return pixels


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[str, Pixels | None]:
    """Decode the bytes of an image file.

    Returns:
        An empty string and the pixels, or the reason why there are none and ``None``.
    """
    import cv2

    if not data:
        return "the file is empty (0 bytes)", None
    reason, header = _header(data)
    if header is None:
        return reason, None
    width, height = header.size
    too_large = width * height > max_pixels
    if too_large and not header.reducible:
        return str(TooLargeError(header.size, max_pixels)), None
    if _is_cut_off(data):
        return "the file is truncated", None
    if too_large or not header.plain:
        return _decode_with_pillow(data, max_pixels)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is not None:
        return "", np.asarray(pixels, dtype=np.uint8)
    return _decode_with_pillow(data, max_pixels)


@dataclass(frozen=True)
class _Header:
    """What decides how an image is decoded: its size, and whether OpenCV shows what people see."""

    size: tuple[int, int]
    plain: bool
    reducible: bool = False


def _header(data: bytes) -> tuple[str, _Header | None]:
    """Read width, height and what else matters without decoding: a reason or the header."""
    from PIL import Image, UnidentifiedImageError

    animated = data.startswith(_PNG) and _is_animated(data)
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 26 and not animated:
        size: tuple[int, int] = struct.unpack(">II", data[16:24])
        if data[25] not in _ALPHA_TYPES and not _has_profile_or_transparency(data):
            return "", _Header(size, True)
    try:
        with opened(data) as image:
            plain = (
                image.format in _OF_OPENCV
                and not animated
                and image.mode not in ("RGBA", "LA", "PA", "La", "RGBa")
                and "transparency" not in image.info
                and is_srgb(image.info.get("icc_profile"), image.mode)
            )
            return "", _Header(image.size, plain, image.format in REDUCIBLE)
    except UnidentifiedImageError:
        return _NO_IMAGE, None
    except Image.DecompressionBombError as error:
        return f"too many pixels: {error}", None
    except decoding_errors() as error:
        return f"the header is damaged ({error})", None


def _has_profile_or_transparency(data: bytes) -> bool:
    """Whether a PNG has a color profile or transparent colors, which stand before its pixels."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind in (b"iCCP", b"tRNS"):
            return True
        if kind in (b"IDAT", b"IEND"):
            return False
        position += 12 + length
    return False


def _is_animated(data: bytes) -> bool:
    """Whether a PNG says that it has several frames: damaged ones can end OpenCV's process."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind in (b"acTL", b"fcTL", b"fdAT"):
            return True
        position += 12 + length
    return False


def _is_cut_off(data: bytes) -> bool:
    """Whether a PNG lacks its end chunk, or a JPEG the end of its last scan.

    Some versions of OpenCV fill the missing part of such files with grey and say nothing.
    """
    if data.startswith(_PNG):
        position = len(_PNG)
        while position + 8 <= len(data):
            length, kind = struct.unpack(">I4s", data[position : position + 8])
            position += 12 + length
            if kind == b"IEND":
                return position > len(data)
        return True
    if data.startswith(_JPEG):
        # Inside a scan 0xFF is always followed by 0x00 or a restart marker.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return False


def _decode_with_pillow(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[str, Pixels | None]:
    """Decode what OpenCV cannot, what it would show otherwise, and what has too many pixels."""
    try:
        with opened(data) as image:
            rgb = np.asarray(as_seen(image, most=max_pixels).convert("RGB"))
    except TooLargeError as error:
        return str(error), None
    except decoding_errors() as error:
        return f"the file is damaged ({error})", None
    return "", np.ascontiguousarray(rgb[..., ::-1])


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """An image that has come out of :func:`decode_ahead`."""

    index: int
    """Its position among the paths."""
    image: Pixels | None
    """Its pixels as of :func:`read_image`, or ``None`` when it cannot be read."""
    found: T | None
    """What the function applied in the thread returned."""
    reason: str
    """Why it cannot be read; empty otherwise."""
    lasting: bool = True
    """Whether that lies in the bytes themselves."""
    digest: str = ""
    """SHA-256 of its file's bytes, where that was asked for."""


def decode_ahead(
    paths: Sequence[Path],
    function: Callable[[Pixels], T],
    *,
    sizes: Sequence[int | None] | None = None,
    hashed: bool = False,
    expected: Sequence[str | None] | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    pixels_in_flight: int = PIXELS_IN_FLIGHT,
) -> Iterator[Decoded[T]]:
    """Decode images in threads, a little ahead of who consumes them, in order.

    Memory stays the same however many images there are: no more than ``3 * workers`` images
    and ``pixels_in_flight`` pixels wait.

    Args:
        paths: The files.
        function: Applied to the pixels in the thread that decoded them.
        sizes: Pixels of each image where known; unknown ones count as one megapixel.
        hashed: Also hash the bytes, so that the file is read only once.
        expected: SHA-256 that each file's bytes must have, where one is known: another file that
            lies under the name meanwhile is not measured in its place.
        max_pixels: As in :func:`read_image`.
        workers: Number of threads; the number of processors, 8 at most, unless given.
        pixels_in_flight: How many pixels may wait; one image always may.

    Yields:
        One result a path, in the order of the paths. An unreadable file is a result as well.
    """
    workers = workers or min(8, processors())
    known = [10**6] * len(paths) if sizes is None else [size or 10**6 for size in sizes]

    def task(index: int) -> Decoded[T]:
        try:
            data = _read_bytes(paths[index], max_pixels)
            known = expected[index] if expected is not None else None
            digest = _digest_of(paths[index], data, known) if hashed or known else ""
            image = _pixels_of(paths[index], data, max_pixels)
            return Decoded(index, image, function(image), "", digest=digest)
        except UnreadableImageError as error:
            return Decoded(index, None, None, error.reason, error.lasting)
        except MemoryError:
            return Decoded(index, None, None, "too large for this machine's memory", False)

    waiting: deque[tuple[int, Future[Decoded[T]]]] = deque()
    pixels, following = 0, 0
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode")
    try:
        while following < len(paths) or waiting:
            while following < len(paths) and len(waiting) < 3 * workers:
                if waiting and pixels + known[following] > pixels_in_flight:
                    break
                waiting.append((known[following], pool.submit(task, following)))
                pixels += known[following]
                following += 1
            size, future = waiting.popleft()
            decoded = future.result()
            del future
            yield decoded
            del decoded
            pixels -= size
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
