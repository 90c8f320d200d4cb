"""Bring one image into the dataset: the same bytes where possible, else lossless PNG."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CuratorError
from ..imageset import content_hash
from ..report.thumbnails import DEEP_MODES, to_eight_bits

_ORIENTATION = 0x0112


class SourcesChangedError(CuratorError):
    """Images are gone, or are not the ones that were measured."""

    def __init__(self, problems: list[str]) -> None:
        listed = "\n  ".join(problems[:10]) + ("\n  …" if len(problems) > 10 else "")
        super().__init__(
            f"{len(problems)} selected image(s) cannot be exported:\n  {listed}\n"
            "Put them back, or curate the folder again: what was measured is not what is there."
        )


@dataclass(frozen=True)
class Placed:
    """How an image came into the dataset.

    Attributes:
        hash: SHA-256 of the exported file.
        how: ``linked`` (a hard link, no second copy), ``copied`` (another file system) or
            ``converted`` (to PNG).
        width: Width of the exported image in pixels.
        height: Height of the exported image in pixels.
    """

    hash: str
    how: str
    width: int
    height: int


def place(source: Path, target: Path, expected_hash: str | None) -> Placed:
    """Put ``source`` at ``target`` (a name that ends with ``.png`` and does not exist yet).

    A PNG that every reader shows alike is hard-linked, or copied where links are not possible.
    Anything else is converted without loss to an 8-bit PNG, turned upright as its EXIF says: other
    formats, and those PNGs that readers disagree about (16 bits a channel in grey, animated,
    rotated by EXIF). Only the precision of more than 8 bits is lost. A colour profile is kept;
    EXIF, which can hold a place and a time, is not.

    Raises:
        OSError: The file is gone or cannot be read, or the disk is full.
        ValueError: The file is not the one that was measured.
    """
    from PIL import Image

    digest = content_hash(source)
    if expected_hash is not None and digest != expected_hash:
        raise ValueError("its bytes have changed since it was measured")
    with Image.open(source) as image:
        if _is_plain_png(image):
            width, height = image.size
        else:
            converted = to_eight_bits(image)
            width, height = converted.size
            # A CMYK profile would be wrong on the RGB image that the conversion made; Pillow writes
            # the profile that an image has come with unless it is told another.
            profile = None if image.mode == "CMYK" else image.info.get("icc_profile")
            with target.open("xb") as file:
                converted.save(file, format="PNG", icc_profile=profile)
            return Placed(content_hash(target), "converted", width, height)
    return Placed(digest, _link_or_copy(source, target), width, height)


def _is_plain_png(image: Any) -> bool:
    return (
        image.format == "PNG"
        and getattr(image, "n_frames", 1) == 1
        and not image.mode.startswith(DEEP_MODES)
        and image.getexif().get(_ORIENTATION, 1) == 1
    )


def _link_or_copy(source: Path, target: Path) -> str:
    try:
        # A link to a link would not outlive what it points to.
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        return "copied"
    return "linked"
