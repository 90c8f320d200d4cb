"""Masks that lie beside images: white is what counts, black is what does not.

Trainers keep them in different places: OneTrainer as ``NAME-masklabel.png`` beside ``NAME.png``,
kohya's sd-scripts in the folder that ``conditioning_data_dir`` names, ai-toolkit in the one that
``mask_path`` names. Folders called ``masks`` and ``_controls`` are taken for such, as far as the
names in them are those of images beside the folder. A picture under such a name is a picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

MARK = "-masklabel"
"""Behind the name of an image's mask where both are in one folder."""

CONTROLS = "_controls"
FOLDERS = ("masks", "mask", CONTROLS)
"""Folders of masks under the images' own names."""

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_LOOKED_AT, _ON_A_LINE = 64, 6.0
"""A mask's colors are looked at in so many places a side; by so many grey values they may lie
beside a line through them, which leaves room for what JPEG does to edges."""

SHAPES_ALIKE = 0.02
"""By so much the aspect ratios of an image and its mask may differ."""


def masks_of(names: Iterable[str], pictures: Collection[str] = ()) -> dict[str, str]:
    """Tell masks from images.

    Args:
        names: Image files, with ``/``.
        pictures: Those that are no masks, whatever their names say; see :func:`is_picture`.

    Returns:
        The mask of each image that has one.
    """
    found: dict[str, str] = {}
    for image, mask in _pairs(names, pictures):
        found.setdefault(image, mask)
    return found


def without_masks(names: Iterable[str], pictures: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names that are no masks: neither the first of an image nor a further one.

    Args:
        names: As of :func:`masks_of`.
        pictures: As of :func:`masks_of`.
    """
    listed = list(names)
    taken = {mask for _, mask in _pairs(listed, pictures)}
    return tuple(name for name in listed if name not in taken)


def _pairs(names: Iterable[str], pictures: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give each image with each of its masks, by their names."""
    listed = list(names)
    by_stem: dict[str, list[str]] = {}
    for name in listed:
        by_stem.setdefault(name.rpartition(".")[0], []).append(name)
    for name in listed:
        stem = name.rpartition(".")[0]
        folder, _, last = stem.rpartition("/")
        above, _, own = folder.rpartition("/")
        if name in pictures:
            continue
        if last.endswith(MARK):
            stem = stem.removesuffix(MARK)
        elif own in FOLDERS:
            stem = f"{above}/{last}" if above else last
        else:
            continue
        for image in by_stem.get(stem, ()):
            yield image, name


def pictures_in(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return the files that are called as masks are and show a picture.

    What lies in a folder of control images is never an image of its own, whatever it shows.

    Args:
        root: The folder that the names start from.
        names: As of :func:`masks_of`.
    """
    called = dict.fromkeys(mask for _, mask in _pairs(names, ()))
    return tuple(
        name
        for name in called
        if PurePosixPath(name).parent.name != CONTROLS and is_picture(root / name)
    )


def is_picture(path: Path) -> bool:
    """Whether a file shows more colors than a mask has.

    A mask is grey, or two colors and what lies between them, or of one color with transparency.
    What cannot be read is no picture.
    """
    import numpy as np
    from PIL import Image

    from .opening import MAX_PIXELS, check_plain, decoding_errors, opened, reduce_to, to_eight_bits

    try:
        check_plain(path)
        with opened(path) as image:
            if image.mode in _GREY:
                return False
            reduce_to(image, MAX_PIXELS)
            shown = to_eight_bits(image).convert("RGB")
    except decoding_errors():
        return False
    colors = np.asarray(shown.resize((_LOOKED_AT, _LOOKED_AT), Image.Resampling.NEAREST), float)
    colors = colors.reshape(-1, 3) - colors.reshape(-1, 3).mean(axis=0)
    # What lies on no line through the colors; the singular values are in order.
    rest = np.linalg.svd(colors, compute_uv=False)[1:]
    return bool(np.sqrt((rest**2).sum() / len(colors)) > _ON_A_LINE)


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
