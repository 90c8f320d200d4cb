"""Control images: what an edit model is shown beside the caption of each training image.

Trainers of edit models keep them in a folder of their own under the training images' names
(ai-toolkit's ``control_path``, musubi-tuner's ``control_directory``), or beside them with
``_control`` behind the name. Both are read, and several for an image are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...analysis.decoding import decode_ahead
from ...errors import CuratorError
from ...reading.kinds import is_image_name
from .buckets import Crop, Size, choose_bucket, crop_to

MARK = "_control"
"""Behind the name of an image's control image where both are in one folder."""


class ControlImagesError(CuratorError):
    """Control images are asked for, and none belongs to any of the training images."""


@dataclass(frozen=True)
class Control:
    """A control image.

    Attributes:
        path: Its file.
        hash: SHA-256 of the file's bytes.
        size: In pixels.
    """

    path: Path
    hash: str
    size: Size


def control_paths(images: Sequence[Path], root: Path, folder: Path) -> dict[Path, tuple[Path, ...]]:
    """Find the control images of each of some images, in the order of their numbers.

    Of ``NAME.png`` they are ``NAME.*`` and ``NAME_1.*``, ``NAME_2.*`` ... in a folder of their own,
    ``NAME_control.*`` and ``NAME_control_1.*`` ... in any folder.

    Images of a folder below the root have theirs in a folder of the same name, or in the first.

    Args:
        images: The training images.
        root: Their folder, or one above it.
        folder: Where control images are; may be the root.

    Returns:
        Their paths by image; images without any are left out.

    Raises:
        ControlImagesError: The folder can't be read.
    """
    apart = folder.resolve() != root.resolve()
    files = {folder: _images_in(folder)}
    found: dict[Path, tuple[Path, ...]] = {}
    for image in images:
        below = folder / image.parent.relative_to(root)
        if below not in files:
            files[below] = _images_in(below) if below.is_dir() else []
        end = f"(?:{MARK})?" if apart else MARK
        name = re.compile(rf"{re.escape(image.stem)}{end}(?:_(\d+))?")
        for where in dict.fromkeys([below, folder] if apart else [below]):
            own = [(match, path) for path in files[where] if (match := name.fullmatch(path.stem))]
            own.sort(key=lambda pair: (int(pair[0][1] or 0), pair[1].name))
            if own:
                found[image] = tuple(path for _, path in own)
                break
    return found


def _images_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if is_image_name(path))
    except OSError as error:
        raise ControlImagesError(
            f"The folder of control images {folder} cannot be read: {error.strerror or error}. "
            "Name the folder that holds them under the training images' names."
        ) from error


def read_controls(paths: Sequence[Path]) -> tuple[dict[Path, Control], dict[Path, str]]:
    """Decode control images once.

    Args:
        paths: Their files.

    Returns:
        The control images, and the reasons of those that can't be read, both by path.
    """
    controls: dict[Path, Control] = {}
    faults: dict[Path, str] = {}
    files = decode_ahead(paths, lambda pixels: Size(pixels.shape[1], pixels.shape[0]), hashed=True)
    for path, file in zip(paths, files, strict=True):
        if file.found is None:
            faults[path] = file.reason
        else:
            controls[path] = Control(path, file.digest, file.found)
    return controls, faults


def control_crop(control: Control, image: Size, crop: Crop, step: int) -> Crop:
    """Say which part of a control image the model is shown, and at which size.

    One of the training image's own size is cut as that is, so that what lies over each other stays
    so. Another keeps its own shape, on an area like the crop's, and is not enlarged.

    Args:
        control: The control image.
        image: Size of the whole training image.
        crop: What of that is trained on.
        step: Sides are multiples of this.
    """
    if control.size == image:
        return Crop(crop.box, crop.size)
    side = max(step, round((crop.size.width * crop.size.height) ** 0.5))
    return crop_to(control.size, choose_bucket(control.size, side, step))
