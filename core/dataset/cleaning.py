"""Image files without what nobody wants to publish, their pixels untouched.

A camera writes where and when and with which camera, a phone a clip behind the image, an image
editor its user's name, ComfyUI the whole graph. Of a PNG, JPEG or WebP file only what decides the
pixels is kept, byte for byte; nothing is decoded, so nothing is lost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..reading.crops import CROP_KEY
from ..reading.disturbances import DISTURBANCE_KEY
from ..reading.recorded import PARAMETERS_KEY

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"sBIT", b"bKGD",
     b"pHYs"}
)  # fmt: skip
_OWN = PARAMETERS_KEY.encode() + b"\0"
_OWN_TEXTS = (_OWN, b"parameters\0", b"prompt\0", b"workflow\0")
_TEXT_KINDS = (b"tEXt", b"iTXt")
"""The second holds what the first has no letters for."""
_CHANGED = (CROP_KEY.encode() + b"\0", DISTURBANCE_KEY.encode() + b"\0")
"""How an image came of another one."""
_JPEG_DROPPED = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
_JFIF, _JFIF_HEAD = b"JFIF\0", 12
_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH"})
_WEBP_ALPHA = 0x10


def cleaned(data: bytes) -> bytes | None:
    """Return an image file's bytes without anything but its pixels.

    A PNG that this program has made keeps how it was made, cut or disturbed; a color profile is
    left out, so the pixels must be sRGB.

    Args:
        data: A whole file.

    Returns:
        The same bytes where there is nothing to leave out; ``None`` if the file is no PNG, JPEG or
        WebP, is an animation, or is not built as it should be.
    """
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, ValueError, IndexError):
        return None
    return None


def _png(data: bytes) -> bytes:
    parts = [_PNG]
    found = list(_png_chunks(data))
    is_own = any(kind == b"tEXt" and part[8:].startswith(_OWN) for kind, part in found)
    for kind, part in found:
        is_text = kind == b"tEXt"
        own_text = kind in _TEXT_KINDS and is_own and part[8:].startswith(_OWN_TEXTS)
        if kind in _PNG_KEPT or own_text or (is_text and part[8:].startswith(_CHANGED)):
            parts.append(part)
    return b"".join(parts)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_PNG)
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError("cut off")
        if kind in (b"acTL", b"fcTL"):
            raise ValueError("an animation")
        yield kind, data[position:end]
        if kind == b"IEND":
            return  # what follows belongs to no PNG
        position = end


def _jpeg(data: bytes) -> bytes:
    parts, position = [data[:2]], 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("no marker")
        marker = data[position + 1]
        if marker == 0xFF:  # a byte that fills
            position += 1
            continue
        if marker == 0xD9:
            parts.append(b"\xff\xd9")
            return b"".join(parts)  # a second image, or a clip, may follow
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("cut off")
        if marker == 0xE0:
            parts += _jfif(data[position + 4 : end])
        elif marker not in _JPEG_DROPPED:
            parts.append(data[position:end])
        position = end
        if marker == 0xDA:
            end = _end_of_scan(data, position)
            parts.append(data[position:end])
            position = end


def _jfif(payload: bytes) -> list[bytes]:
    """Return the head of a JPEG without the small image that it may hold."""
    if not payload.startswith(_JFIF):
        return []
    body = payload[:_JFIF_HEAD] + b"\0\0"
    return [b"\xff\xe0" + struct.pack(">H", len(body) + 2) + body]


def _end_of_scan(data: bytes, position: int) -> int:
    """Return where the next marker stands: 0xFF, but for a zero or a restart behind it."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise ValueError("cut off")
        if data[position + 1] != 0 and not 0xD0 <= data[position + 1] <= 0xD7:
            return position
        position += 2


def _webp(data: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", data, 4)
    end, position = min(len(data), size + 8), 12
    parts = []
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        stop = position + 8 + length + length % 2
        if kind in (b"ANIM", b"ANMF"):
            raise ValueError("an animation")
        if kind in _WEBP_KEPT:
            part = data[position:stop]
            if kind == b"VP8X":
                part = part[:8] + bytes([part[8] & _WEBP_ALPHA]) + part[9:]
            parts.append(part)
        position = stop
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
