"""Masks that lie beside images: white is what counts, black is what does not.

Trainers keep them in different places: OneTrainer as ``NAME-masklabel.png`` beside ``NAME.png``,
kohya's sd-scripts in the folder that ``conditioning_data_dir`` names, ai-toolkit in the one that
``mask_path`` names. Folders called ``masks`` and ``_controls`` are taken for such, as far as the
names in them are those of images beside the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

MARK = "-masklabel"
"""Behind the name of an image's mask where both are in one folder."""

FOLDERS = ("masks", "mask", "_controls")
"""Folders of masks under the images' own names."""

SHAPES_ALIKE = 0.02
"""By so much the aspect ratios of an image and its mask may differ."""


def masks_of(names: Iterable[str]) -> dict[str, str]:
    """Tell masks from images.

    Args:
        names: Image files, with ``/``.

    Returns:
        The mask of each image that has one.
    """
    listed = list(names)
    found: dict[str, str] = {}
    by_stem: dict[str, list[str]] = {}
    for name in listed:
        by_stem.setdefault(name.rpartition(".")[0], []).append(name)
    for name in listed:
        stem = name.rpartition(".")[0]
        folder, _, last = stem.rpartition("/")
        above, _, own = folder.rpartition("/")
        if last.endswith(MARK):
            stem = stem.removesuffix(MARK)
        elif own in FOLDERS:
            stem = f"{above}/{last}" if above else last
        else:
            continue
        for image in by_stem.get(stem, ()):
            found.setdefault(image, name)
    return found


def mask_in(folder: Path, image: str) -> Path | None:
    """Return the mask of an image in a folder of masks: under its name, or with the mark behind."""
    stem = PurePosixPath(image).stem
    for name in (f"{stem}.png", f"{stem}{MARK}.png"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.glob("*.*") if path.stem == stem and path.is_file())
    return found[0] if found else None


def read_mask(path: Path) -> Any:
    """Read a mask: a PIL image in mode L, upright.

    Of a colored one the brightness counts; of one that is all white or all black with transparency
    (as editors cut out), the opacity.

    Raises:
        Exception: One of :func:`.opening.decoding_errors`: it is no image, or a damaged one.
    """
    from .opening import opened, to_eight_bits, to_first_frame

    with opened(path) as image:
        to_first_frame(image)
        shown = to_eight_bits(image)
    if shown.mode in ("LA", "RGBA"):
        lowest, highest = shown.convert("RGB").convert("L").getextrema()
        if lowest == highest:
            return shown.getchannel("A")
        return shown.convert("RGB").convert("L")
    return shown.convert("L")


def read_alpha(path: Path) -> Any | None:
    """Return the opacity of an image's pixels in mode L, upright; ``None`` where all are opaque.

    Raises:
        Exception: One of :func:`.opening.decoding_errors`: it is no image, or a damaged one.
    """
    from .opening import opened, upright

    with opened(path) as image:
        if (
            image.mode not in ("LA", "PA", "La", "RGBA", "RGBa")
            and "transparency" not in image.info
        ):
            return None
        shown = upright(image)
    if shown.mode not in ("LA", "RGBA"):
        return None
    alpha = shown.getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def of_another_shape(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether a mask's width and height do not belong to an image's."""
    return abs(mask[0] * image[1] / (mask[1] * image[0]) - 1) > SHAPES_ALIKE


def uncovered(mask: Any, size: tuple[int, int]) -> Any:
    """Return the mask of a whole image from that of its middle.

    A batch of images holds one size: images of another shape are scaled to cover it, and what is
    over is cut off evenly. What was cut off is black in the result.

    Args:
        mask: Of the image as it was in the batch, a PIL image in mode L.
        size: Width and height of the whole image.
    """
    from PIL import Image

    scale = min(size[0] / mask.width, size[1] / mask.height)
    part = (max(1, round(mask.width * scale)), max(1, round(mask.height * scale)))
    whole = Image.new("L", size)
    corner = ((size[0] - part[0]) // 2, (size[1] - part[1]) // 2)
    whole.paste(mask.resize(part, Image.Resampling.BILINEAR), corner)
    return whole


def without_masks(names: Iterable[str], masks: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that are no masks."""
    taken = set(masks.values())
    return tuple(name for name in names if name not in taken)
