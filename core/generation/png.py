"""PNG files that describe themselves: the text chunk, and writing them whole or not at all."""

from __future__ import annotations

import errno
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import atomic
from ..errors import CuratorError
from ..imageset import PARAMETERS_KEY
from ..json_text import parse

if TYPE_CHECKING:
    import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RECORD_VERSION = 1


class OutputError(CuratorError):
    """An image can't be written."""


class DamagedPngError(CuratorError):
    """A file is no whole PNG: cut off, altered, or something else."""


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, payload) of each chunk of a PNG, having checked its checksum.

    Raises:
        DamagedPngError: The signature, a length or a checksum is wrong, or the end is missing.
    """
    if not data.startswith(SIGNATURE):
        raise DamagedPngError("no PNG signature")
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        payload = data[position + 8 : end]
        if zlib.crc32(kind + payload) != struct.unpack_from(">I", data, end)[0]:
            raise DamagedPngError(f"wrong checksum in chunk {kind!r}")
        yield kind, payload
        if kind == b"IEND":
            return
        position = end + 4
    raise DamagedPngError("the file is cut off")


def read_record(data: bytes) -> dict[str, Any] | None:
    """Read how an image was generated from its bytes, the whole file checked.

    Returns:
        The record, or ``None`` when the image has none that can be understood.

    Raises:
        DamagedPngError: The file is not whole.
    """
    key = PARAMETERS_KEY.encode() + b"\0"
    found: dict[str, Any] | None = None
    for kind, payload in chunks(data):
        if kind == b"tEXt" and payload.startswith(key):
            with suppress(ValueError):
                value = parse(payload[len(key) :].decode("ascii"))
                found = value if isinstance(value, dict) else None
    return found


def write(
    path: Path,
    pixels: np.ndarray,
    record: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """Write an image with its record, whole or not at all.

    Two processes that make the same image at once do not meet: each writes a file of its own.

    Args:
        path: Where to; the folder exists.
        pixels: uint8 RGB array of shape ``(height, width, 3)``.
        record: How it was generated, ready for JSON.
        texts: Further text chunks, by keyword.

    Returns:
        The bytes of the file.

    Raises:
        OutputError: The disk is full or the folder can't be written to.
    """
    data = encode(pixels, record, texts)
    try:
        atomic.write_bytes(path, data)
    except OSError as error:
        raise output_error(path, error) from error
    return data


def encode(
    pixels: np.ndarray, record: Mapping[str, Any], texts: Mapping[str, str] | None = None
) -> bytes:
    """Encode an image with its record, and with the text that other tools show."""
    from io import BytesIO

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", parameters_text(record))
    # ASCII, so that it is a plain tEXt chunk whatever the prompt's script.
    info.add_text(PARAMETERS_KEY, json.dumps(record, ensure_ascii=True, separators=(",", ":")))
    for keyword, text in (texts or {}).items():
        info.add_text(keyword, text)
    buffer = BytesIO()
    Image.fromarray(pixels, "RGB").save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def parameters_text(record: Mapping[str, Any]) -> str:
    """Describe an image in the customary ``parameters`` text, which image viewers show."""
    settings = record.get("settings", {})
    scheduler = settings.get("scheduler")
    facts = {
        "Steps": settings.get("steps"),
        "Sampler": scheduler.get("class") if isinstance(scheduler, Mapping) else scheduler,
        "CFG scale": settings.get("guidance"),
        "Seed": record.get("noise_seed"),
        "Size": f"{settings.get('width')}x{settings.get('height')}",
        "Model": settings.get("model"),
        "Batch size": record.get("batch", {}).get("size"),
        "Version": "Character Curator",
    }
    last = ", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    negative = record.get("negative_prompt")
    lines = [record.get("prompt", ""), f"Negative prompt: {negative}" if negative else "", last]
    return "\n".join(line for line in lines if line)


def temporary_path(path: Path) -> Path:
    """Return the name under which earlier versions wrote an image before it was whole."""
    return path.with_name(f".{path.name}.tmp")


def output_error(path: Path, error: OSError) -> OutputError:
    """Say what an operating system's error means for the one who waits for images."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"The disk is full: {path} was not written. Free some space and run the same command "
            "again; what is there already is kept and not made again."
        )
    reason = error.strerror or str(error)
    return OutputError(
        f"{path} can't be written: {reason}. Choose an output folder that you may write to."
    )
