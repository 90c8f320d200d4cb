"""Masks beside a dataset's images, for trainers that weigh the loss with them.

White counts, black does not. They are made of what was measured (face, head), of an image's own
transparency, of masks that lie beside the images, by a segmentation model, or are given; and they
are written where a trainer looks for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.crop_boxes import Head, face_of, head_of
from ..analysis.poses import layout_of
from ..counts import how_many
from ..defaults import MASK_KINDS
from ..errors import CuratorError
from ..reading.crops import CropRecord, crop_record, cut
from ..reading.masks import MARK, mask_in, of_another_shape, read_alpha, read_mask, uncovered
from ..reading.opening import decoding_errors, opened
from .images import Placed

KOHYA, ONETRAINER, AI_TOOLKIT = "kohya", "onetrainer", "ai-toolkit"
LAYOUTS = (KOHYA, ONETRAINER, AI_TOOLKIT)
"""Where masks lie: ``masks/NAME.png``, ``NAME-masklabel.png``, ``_controls/NAME.png``.

kohya's sd-scripts take the first as ``conditioning_data_dir`` with ``--masked_loss``; OneTrainer
takes the second with *masked training*; ai-toolkit trains on all images below its folder but for
those in ``_controls``, which can be its ``mask_path``."""

FACE, HEAD, PERSON, FOREGROUND, ALPHA, BESIDE = KINDS = MASK_KINDS
SEGMENTERS: Mapping[str, str] = {PERSON: "u2net_human_seg", FOREGROUND: "isnet-general-use"}
"""rembg's models by what they find: both may be used commercially (Apache-2.0)."""

_SOFT = 0.12
"""Share of an ellipse's radius over which it fades."""

Array = NDArray[np.uint8]


class MaskError(CuratorError):
    """Masks that are asked for can't be had."""


@dataclass(frozen=True)
class MaskWish:
    """Which masks a dataset gets.

    Attributes:
        source: One of :data:`KINDS`, or a folder that holds masks under the images' names.
        layout: One of :data:`LAYOUTS`.
        given: A mask for each selected image in their order, values from 0 to 255; in place of the
            source.
        covering: Whether those given are of images that were scaled to cover the masks' size and
            cut around their middle, as in a batch.
        model: rembg's name of a model, or an ONNX file of U-2-Net's kind in rembg's own folder,
            for ``person`` and ``foreground``.
    """

    source: str = HEAD
    layout: str = KOHYA
    given: Sequence[Array] | None = None
    covering: bool = False
    model: str | None = None


@dataclass
class MaskWriter:
    """Writes the mask of each exported image.

    Attributes:
        wish: Which.
        folder: The dataset's.
        root: What the paths of the rows start from.
        without: Names of images for which there was no mask; theirs is white.
    """

    wish: MaskWish
    folder: Path
    root: Path
    without: list[str] = field(default_factory=list)
    _segment: Callable[[Any], Any] | None = None

    def write(self, number: int, row: Mapping[str, Any], name: str, placed: Placed) -> str:
        """Write the mask of an image; return its name in the dataset.

        Args:
            number: The image's place among the selected.
            row: What is known of it.
            name: Its name in the dataset.
            placed: How it came there.

        Raises:
            MaskError: It can't be had.
        """
        from PIL import Image

        size = (placed.width, placed.height)
        mask = self._mask(number, row, name, placed)
        if mask is None:
            self.without.append(name)
            mask = Image.new("L", size, 255)
        elif mask.size != size:
            if self.wish.covering:
                mask = uncovered(mask, size)
            elif of_another_shape(mask.size, size):
                raise MaskError(
                    f"The mask of {row.get('source') or row['path']} has {mask.width} x "
                    f"{mask.height} pixels, and its image {size[0]} x {size[1]}: they are of "
                    "different shapes. Make the mask from that image."
                )
            else:
                mask = mask.resize(size, Image.Resampling.BILINEAR)
        target = self.folder / mask_name(name, self.wish.layout)
        target.parent.mkdir(exist_ok=True)
        with target.open("xb") as file:
            mask.save(file, format="PNG")
        return target.relative_to(self.folder).as_posix()

    def _mask(self, number: int, row: Mapping[str, Any], name: str, placed: Placed) -> Any | None:
        from PIL import Image

        source = self.wish.source
        if self.wish.given is not None:
            return Image.fromarray(self.wish.given[number], "L")
        try:
            if source in (FACE, HEAD):
                return _of_face(row, placed, source)
            if source == ALPHA:
                return read_alpha(self.root / row["path"])
            if source in SEGMENTERS:
                return self._segmented(self.folder / name)
            return self._beside(row)
        except decoding_errors() as error:
            raise MaskError(
                f"The mask of {row.get('source') or row['path']} can't be read: {error}. Mend it, "
                "or take it away, and the image counts as a whole."
            ) from error

    def _beside(self, row: Mapping[str, Any]) -> Any | None:
        from PIL import Image

        if self.wish.source == BESIDE:
            known = row.get("mask_file")
            path = self.root / known if known else None
        else:
            path = mask_in(Path(self.wish.source).expanduser(), row.get("source") or row["path"])
        if path is None:
            return None
        mask = read_mask(path)
        record = crop_record(self.root / row["path"]) if row.get("crop_box") else None
        if record is None or not _is_of_the_original(mask.size, record):
            return mask
        return cut(mask.resize(record.source_size, Image.Resampling.BILINEAR), record)

    def _segmented(self, path: Path) -> Any:
        if self._segment is None:
            self._segment = segmenter(self.wish.source, self.wish.model)
        with opened(path) as image:
            return self._segment(image.convert("RGB"))


def _is_of_the_original(mask: tuple[int, int], record: CropRecord) -> bool:
    """Whether a mask is of the whole image that a crop was cut from, and not of the crop."""
    return mask == record.source_size or not of_another_shape(mask, record.source_size)


def mask_name(name: str, layout: str) -> str:
    """Return where a layout has the mask of an image of the dataset."""
    path = PurePosixPath(name)
    if layout == ONETRAINER:
        return str(path.with_name(f"{path.stem}{MARK}.png"))
    folder = "masks" if layout == KOHYA else "_controls"
    return str(path.parent / folder / f"{path.stem}.png")


def checked(wish: MaskWish, count: int) -> MaskWish:
    """Check a wish before anything is written.

    Args:
        wish: Which masks.
        count: How many images are selected.

    Raises:
        MaskError: It can't be fulfilled.
    """
    if wish.layout not in LAYOUTS:
        raise MaskError(f"No layout of masks '{wish.layout}'. There are: {', '.join(LAYOUTS)}.")
    if wish.given is not None:
        if len(wish.given) != count:
            raise MaskError(
                f"{how_many(len(wish.given), 'mask is', 'masks are')} given for "
                f"{how_many(count, 'selected image')}. Give one for each "
                "in their order."
            )
        return wish
    if wish.source in SEGMENTERS and find_spec("rembg") is None:
        raise MaskError(
            f"Masks of the {wish.source} need rembg. Install it with: python -m pip install "
            '"character-curator[masks]"; or take head, face, alpha, or a folder of masks.'
        )
    if wish.source not in KINDS and not Path(wish.source).expanduser().is_dir():
        raise MaskError(
            f"'{wish.source}' is neither a kind of masks ({', '.join(KINDS)}) nor a folder that "
            "holds them under the images' names."
        )
    return wish


def segmenter(kind: str, model: str | None = None) -> Callable[[Any], Any]:
    """Return what makes the mask of an RGB image, with rembg.

    Its model comes from rembg's own releases at first use, and lies in its own folder then.

    Args:
        kind: ``person`` or ``foreground``.
        model: rembg's name of another model, or an ONNX file of U-2-Net's kind in rembg's folder.

    Raises:
        MaskError: The model can't be had.
    """
    from rembg import new_session, remove

    name = model or SEGMENTERS[kind]
    try:
        file = Path(name).expanduser()
        session = (
            new_session("u2net_custom", model_path=str(file))
            if file.is_file()
            else new_session(name)
        )
    except Exception as error:  # of every library that rembg downloads and runs with
        raise MaskError(
            f"rembg's model '{name}' can't be had: {error}. It is downloaded at first use; name "
            "another, or an ONNX file in rembg's own folder (mask_model)."
        ) from error

    def mask(image: Any) -> Any:
        return remove(image, session=session, only_mask=True).convert("L")

    return mask


def _of_face(row: Mapping[str, Any], placed: Placed, kind: str) -> Any | None:
    """Draw a soft ellipse where the face or the head is; ``None`` where no face is known."""
    from PIL import Image

    box, points = row.get("face_box"), row.get("face_landmarks")
    if box is None:
        return None
    scale = placed.scale
    face = [edge * scale for edge in box]
    marks = None
    if points is not None and np.isfinite(points).all():
        marks = np.asarray(points, dtype=np.float64).reshape(5, 2) * scale
    layout = None if marks is None else layout_of(marks)
    shape = (face_of if kind == FACE else head_of)(face, marks, row.get("yaw"), layout)
    return Image.fromarray(ellipse((placed.width, placed.height), shape), "L")


def ellipse(size: tuple[int, int], shape: Head) -> Array:
    """Draw an ellipse that fades at its edge: 255 inside, 0 outside.

    Args:
        size: Width and height in pixels.
        shape: The ellipse; where it ends the mask is at one half.
    """
    turn = math.radians(shape.roll)
    y, x = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    right, down = x - shape.x, y - shape.y
    across = (right * math.cos(turn) + down * math.sin(turn)) / max(shape.across, 1e-6)
    along = (down * math.cos(turn) - right * math.sin(turn)) / max(shape.along, 1e-6)
    inside = np.clip((1 + _SOFT / 2 - np.hypot(across, along)) / _SOFT, 0, 1)
    return np.asarray(np.rint(255 * inside), dtype=np.uint8)
