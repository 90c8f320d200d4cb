"""Bring one image into the dataset: the same bytes where possible, else lossless PNG."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..counts import how_many
from ..errors import CuratorError
from ..hashing import content_hash, file_state
from ..json_text import parse
from ..plain_files import plain_bytes
from ..reading.color import WHITE, is_srgb, on_background
from ..reading.masks import without_masks
from ..reading.opening import (
    DEEP_MODES,
    MAX_PIXELS,
    ORIENTATION,
    check_plain,
    decoding,
    opened,
    upright,
)
from .cleaning import cleaned
from .sidecars import read_metadata

_KEPT = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp"}
_WAY = "png/1"
SUFFIXES = (".png", ".jpg", ".webp")
"""The ends of the names of a dataset's images."""


BACKGROUND, MASK = "background", "mask"
"""What becomes of transparency: seen on a color; or also kept, as the mask of the loss."""


def image_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of a dataset's files that are its images: neither masks nor anything else."""
    shown = [name for name in names if name.endswith(SUFFIXES)]
    return without_masks(shown)


class SourcesChangedError(CuratorError):
    """Images are gone, or are not the ones that were measured."""

    def __init__(self, problems: list[str]) -> None:
        listed = "\n  ".join(problems[:10]) + ("\n  …" if len(problems) > 10 else "")
        super().__init__(
            f"{how_many(len(problems), 'selected image')} cannot be exported:\n  {listed}\n"
            "Put them back, or curate the folder again: what was measured is not what is there."
        )


class UnreadableSourcesError(SourcesChangedError):
    """Images are the ones that were measured, and cannot be decoded as a whole.

    Attributes:
        reasons: Why, by the path in the table.
    """

    def __init__(self, reasons: Mapping[str, str], advice: str = "") -> None:
        super().__init__([f"{name}: {reason}" for name, reason in reasons.items()])
        self.reasons = dict(reasons)
        listed = "\n  ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:10])
        self.args = (
            f"{how_many(len(reasons), 'selected image is', 'selected images are')} damaged and "
            f"cannot be exported:\n  {listed}{chr(10) + '  …' if len(reasons) > 10 else ''}\n"
            + (advice or "Replace them, or take them out of the folder, and curate it again."),
        )


class ChangedError(ValueError):
    """An image is not the one that was measured."""

    def __init__(self) -> None:
        super().__init__("its bytes have changed since it was measured")


class LookError(CuratorError):
    """An option of how exported images look cannot be."""


@dataclass(frozen=True)
class Look:
    """How the images of a dataset look and what they are stored as.

    Attributes:
        background: What transparent pixels show, from 0 to 255 for red, green and blue.
        alpha: ``background`` stores no transparency; ``mask`` keeps it beside the pixels as they
            are seen on the background, for trainers that take it for the mask of their loss.
        max_side: The longest side in pixels; larger images are scaled down.
        keep_formats: Whether JPEG and WebP files stay what they are, where nothing but what hides
            beside the pixels is to be left out.
    """

    background: tuple[int, int, int] = WHITE
    alpha: str = BACKGROUND
    max_side: int | None = None
    keep_formats: bool = False

    @property
    def way(self) -> str:
        """A text that names how an image is converted, and nothing else."""
        red, green, blue = self.background
        return f"{_WAY} #{red:02x}{green:02x}{blue:02x} {self.alpha} {self.max_side or 'any'}"


def look_of(
    background: str | None = None,
    alpha: str | None = None,
    max_side: int | None = None,
    keep_formats: bool | None = None,
) -> Look:
    """Make a look from options as people give them.

    Args:
        background: A color's name or ``#rrggbb``; white unless given.
        alpha: ``background`` (unless given) or ``mask``.
        max_side: In pixels; any unless given.
        keep_formats: No unless given.

    Raises:
        LookError: There is no such color.
    """
    from PIL import ImageColor

    try:
        color = ImageColor.getrgb(background or "white")[:3]
    except ValueError as error:
        raise LookError(
            f"The background '{background}' is no color: give a name such as 'white' or 'gray', "
            "or #rrggbb."
        ) from error
    return Look((color[0], color[1], color[2]), alpha or BACKGROUND, max_side, bool(keep_formats))


@dataclass(frozen=True)
class Placed:
    """How an image came into the dataset.

    Attributes:
        hash: SHA-256 of the exported file.
        how: ``linked`` (a hard link, no second copy), ``copied`` (another file system),
            ``cleaned`` (the same pixels, without what was beside them), ``converted`` (to PNG) or
            ``reused`` (converted by an earlier export).
        width: Width of the exported image in pixels.
        height: Height of the exported image in pixels.
        scale: Its sides over those of the image that was measured.
        way: How it was converted; empty if it was not.
        suffix: The end of its name.
    """

    hash: str
    how: str
    width: int
    height: int
    scale: float = 1.0
    way: str = ""
    suffix: str = ".png"


@dataclass(frozen=True)
class Earlier:
    """What an earlier export to the same place has converted, so that it is not done again."""

    folder: Path
    entries: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path) -> Earlier:
        """Read what a dataset says of its converted images; nothing where there is none."""
        entries = {
            (str(values["source_hash"]), str(values["conversion"])): (name, values)
            for name, values in read_metadata(folder).items()
            if values.get("source_hash") and values.get("conversion")
        }
        return Earlier(folder, entries)

    def take(self, digest: str, way: str, target: Path) -> Placed | None:
        """Put what was made of an image at ``target``; ``None`` if it is not there unchanged."""
        name, values = self.entries.get((digest, way), ("", {}))
        if not name or not (self.folder / name).is_file():
            return None
        if content_hash(self.folder / name) != values.get("hash"):
            return None
        link_or_copy(self.folder / name, target)
        return Placed(
            str(values["hash"]), "reused", int(values["width"]), int(values["height"]),
            float(values.get("scale", 1.0)), way,
        )  # fmt: skip


def place(
    source: Path,
    target: Path,
    expected_hash: str | None,
    look: Look = Look(),
    earlier: Earlier | None = None,
) -> Placed:
    """Put ``source`` at ``target`` (a name that ends with ``.png`` and does not exist yet).

    A PNG that every reader shows alike, and that holds nothing but its pixels (and how this
    program has made it), is hard-linked, or copied where links are not possible. One that holds
    more (a place, a name, a color profile that is sRGB's or damaged, another program's graph) is
    copied without that, its pixels untouched; so is a JPEG or WebP where formats are kept, under a
    name that ends as it does.
    Anything else is converted without loss to an 8-bit PNG in sRGB, turned upright as its EXIF
    says: other formats, other color spaces, transparent images, and those PNGs that readers
    disagree about (16 bits a channel in grey, animated, rotated by EXIF). Only the precision of
    more than 8 bits is lost.

    Args:
        source: The image.
        target: Where to; with another end where the format is kept.
        expected_hash: Of the file that was measured.
        look: How it shall look.
        earlier: What need not be converted again.

    Raises:
        OSError: The file is gone or cannot be read, or the disk is full.
        ChangedError: The file is not the one that was measured.
        DamagedError: It cannot be decoded as a whole.
    """
    check_plain(source)
    state = file_state(source)
    data = plain_bytes(source)
    digest = hashlib.sha256(data).hexdigest()
    if expected_hash is not None and digest != expected_hash:
        raise ChangedError
    with decoding(), opened(data) as image:
        suffix = _KEPT.get(image.format or "", "")
        kept_as = suffix if suffix == ".png" or look.keep_formats else ""
        alike = bool(kept_as) and _is_shown_alike(image, look)
        width, height = image.size
    if alike:
        kept = _without_more(source, data, target.with_suffix(suffix), digest)
        if kept is not None:
            if kept[1] == "linked" and file_state(source)[:3] != state[:3]:
                raise ChangedError
            return Placed(kept[0], kept[1], width, height, suffix=suffix)
    if earlier is not None:
        reused = earlier.take(digest, look.way, target)
        if reused is not None:
            return reused
    return _converted(source, data, target, look)


def _converted(source: Path, data: bytes, target: Path, look: Look) -> Placed:
    from PIL import Image, PngImagePlugin

    with decoding(), opened(data) as image:
        own = own_texts(image)
        made = upright(image, MAX_PIXELS)
    seen = on_background(made, look.background)
    if look.alpha == MASK and seen.mode != made.mode and made.getchannel("A").getextrema()[0] < 255:
        seen = seen.convert("RGB")
        seen.putalpha(made.getchannel("A"))
    scale = 1.0
    longest = max(seen.size)
    if look.max_side and longest > look.max_side:
        scale = look.max_side / longest
        size = (max(1, round(seen.width * scale)), max(1, round(seen.height * scale)))
        seen = seen.resize(size, Image.Resampling.LANCZOS)
    info = PngImagePlugin.PngInfo()
    for key, text in own.items():
        info.add_text(key, text)
    with target.open("xb") as file:
        seen.save(file, format="PNG", pnginfo=info, icc_profile=None, exif=b"")
    width, height = seen.size
    return Placed(content_hash(target), "converted", width, height, scale, look.way)


def own_texts(image: Any) -> dict[str, str]:
    """Return how this program has made, cut or disturbed an opened image, if it has."""
    from ..reading.crops import CROP_KEY
    from ..reading.disturbances import DISTURBANCE_KEY
    from ..reading.recorded import PARAMETERS_KEY

    texts = {}
    for key in (PARAMETERS_KEY, CROP_KEY, DISTURBANCE_KEY):
        text = image.info.get(key)
        if not isinstance(text, str):
            continue
        try:
            parse(text, strict=True)
        except ValueError:
            continue
        texts[key] = text
    return texts


def _is_shown_alike(image: Any, look: Look) -> bool:
    """Whether every reader shows an opened file's pixels alike, as large as they may be."""
    if (
        (getattr(image, "n_frames", 1) != 1 and image.format != "MPO")
        or image.mode.startswith(DEEP_MODES)
        or image.mode == "CMYK"
        or image.getexif().get(ORIENTATION, 1) != 1
        or not is_srgb(image.info.get("icc_profile"), image.mode)
        or image.size[0] * image.size[1] > MAX_PIXELS
        or max(image.size) > (look.max_side or max(image.size))
    ):
        return False
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
        return bool(alpha.getextrema()[0] == 255)
    return True


def _without_more(source: Path, data: bytes, target: Path, digest: str) -> tuple[str, str] | None:
    """Link a file, or copy it without what hides in it: hash and way; ``None`` if it can't be."""
    clean = cleaned(data)
    if clean is None:
        return None
    if clean == data:
        return digest, link_or_copy(source, target)
    with target.open("xb") as file:
        file.write(clean)
    return content_hash(target), "cleaned"


def link_or_copy(source: Path, target: Path) -> str:
    """Put a file at ``target`` as a hard link, or a copy where links are not possible.

    Returns:
        ``linked`` or ``copied``.
    """
    try:
        # A link to a link would not outlive what it points to.
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        return "copied"
    return "linked"
