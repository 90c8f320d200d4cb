"""What of an image is the subject: a mask, by a segmentation model or around the face."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.crop_boxes import Head, head_of
from ..analysis.poses import layout_of
from ..asset_sections import BACKGROUNDS, FIGURE, KEEP
from ..dataset.masks import SEGMENTERS, MaskError, MaskWish, checked, ellipse, segmenter
from ..reading.masks import mask_in, of_another_shape, read_mask

if TYPE_CHECKING:
    from ..features import FeatureStore

ANALYSER = "cut-out"

_WORKING = 512
"""Longest side in pixels at which a figure is looked for; the result is enlarged smoothly."""
_ROUNDS = 6
_FEATHER = 0.002
"""By this share of the longer side the edge of a figure fades."""

Array = NDArray[np.uint8]


class Cutter:
    """Makes the masks of images; what a store knows is not made again.

    Args:
        background: One of :data:`.BACKGROUNDS`, or a folder of masks under the images' names.
        model: For ``person`` and ``foreground``: rembg's name of another model, or a file.
        store: Where masks are kept; those of a folder are read each time.

    Raises:
        MaskError: rembg is not installed, or there is no such kind or folder.
    """

    def __init__(
        self, background: str = KEEP, model: str | None = None, store: FeatureStore | None = None
    ) -> None:
        self.background = background
        self.model = model
        self._store = store
        if background not in BACKGROUNDS and not Path(background).expanduser().is_dir():
            raise MaskError(
                f"background = '{background}' is neither one of {', '.join(BACKGROUNDS)} nor a "
                "folder that holds masks under the images' names."
            )
        if background in SEGMENTERS:
            try:
                checked(MaskWish(background), 0)
            except MaskError as error:
                raise MaskError(
                    f"{error} For assets {FIGURE} cuts out the person without rembg, best on a "
                    "plain background."
                ) from error

    @property
    def fingerprint(self) -> str:
        """What masks depend on besides the pixels and the face that was found."""
        if self.background in SEGMENTERS:
            name = self.model or SEGMENTERS[self.background]
            return f"rembg {metadata.version('rembg')} {name}"
        if self.background == FIGURE:
            import cv2

            return f"grabcut/1 opencv {cv2.__version__} {_WORKING} {_ROUNDS} {_FEATHER}"
        if self.background in BACKGROUNDS:
            return f"{self.background}/1"
        return "given masks"

    def mask(self, row: Mapping[str, Any], image: Any) -> Any | None:
        """Return the mask of an image, white where the subject is; None where all of it counts.

        Args:
            row: What is known of it: ``path``, ``hash`` and, for ``figure`` and ``head``, the
                columns of ``validate_faces``.
            image: A PIL image, upright.

        Raises:
            MaskError: It can't be had.
        """
        if self.background == KEEP:
            return None
        if self.background not in BACKGROUNDS:
            return self._given(row, image)
        if self.background in (FIGURE, "head"):
            head = head_in(row)
            if head is None:
                raise MaskError(
                    f"{row['path']} shows no face that '{self.background}' could start from."
                )
            if self.background == "head":
                return _as_image(ellipse(image.size, head))
            return self._kept(row, head, image)
        return self._kept(row, None, image)

    def _kept(self, row: Mapping[str, Any], head: Head | None, image: Any) -> Any:
        """Return a mask that is costly to make, from the store where that has it."""
        from PIL import Image

        key = row.get("hash")
        said = self.fingerprint if head is None else f"{self.fingerprint} {head}"
        if self._store is not None and key:
            found = self._store.get([key], ANALYSER, said).get(key)
            if found is not None:
                return Image.open(io.BytesIO(found), formats=("PNG",))
        rgb = image.convert("RGB")
        made = self._segment(rgb) if head is None else _as_image(figure(np.asarray(rgb), head))
        if self._store is not None and key:
            buffer = io.BytesIO()
            made.save(buffer, "PNG")
            self._store.put({key: buffer.getvalue()}, ANALYSER, said)
        return made

    @cached_property
    def _segment(self) -> Any:
        return segmenter(self.background, self.model)

    def _given(self, row: Mapping[str, Any], image: Any) -> Any | None:
        name = row.get("source") or row["path"]
        path = mask_in(Path(self.background).expanduser(), name)
        if path is None:
            raise MaskError(
                f"There is no mask of {name} in {self.background}. Put one there under its name."
            )
        try:
            mask = read_mask(path)
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise MaskError(f"The mask {path} can't be read: {error}. Mend it.") from error
        return fitted(mask, image.size, name)


def fitted(mask: Any, size: tuple[int, int], name: str) -> Any:
    """Return a mask in the size of its image.

    Raises:
        MaskError: It is of another shape.
    """
    from PIL import Image

    if mask.size == size:
        return mask
    if of_another_shape(mask.size, size):
        raise MaskError(
            f"The mask of {name} has {mask.width} x {mask.height} pixels, and its image {size[0]} "
            f"x {size[1]}: they are of different shapes. Make the mask from that image."
        )
    return mask.resize(size, Image.Resampling.BILINEAR)


def head_in(row: Mapping[str, Any]) -> Head | None:
    """Return the head around the face that was found in an image; None without one."""
    box, points = row.get("face_box"), row.get("face_landmarks")
    if box is None:
        return None
    marks = None
    if points is not None and np.isfinite(points).all():
        marks = np.asarray(points, dtype=np.float64).reshape(5, 2)
    layout = None if marks is None else layout_of(marks)
    return head_of(list(box), marks, row.get("yaw"), layout)


def figure(image: Array, head: Head) -> Array:
    """Cut the person around a head out of an image, with OpenCV's GrabCut.

    GrabCut (Rother, Kolmogorov and Blake, 2004) parts the colors of a figure from those of its
    background. It starts from the head, which is the figure's, the body that hangs below it, which
    probably is, and the upper corners, which probably are not. A plain background is parted
    cleanly; a busy one, and clothes of its color, less so.

    Args:
        image: RGB, shape ``(h, w, 3)``.
        head: Where the head is.

    Returns:
        255 where the figure is, 0 elsewhere, with a soft edge, shape ``(h, w)``; the same for the
        same image.
    """
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, _WORKING / max(height, width))
    small = image
    if scale < 1:
        side = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    labels = _prior(small.shape[:2], head, scale)
    # Its colors are grouped from random starts, drawn from OpenCV's generator.
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(small[..., ::-1])
    cv2.grabCut(
        bgr, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK
    )
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    found = _of_the_head(found, head, scale)
    # Blurred before it is enlarged: no steps of the smaller image are left.
    soft = cv2.GaussianBlur(255 * found, (0, 0), max(0.5, _FEATHER * max(small.shape[:2])))
    if scale < 1:
        soft = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
    # Half of the blur lies outside: drawn in, so that no rim of the background comes along.
    return np.clip((soft.astype(np.float32) - 96) * (255 / 128), 0, 255).astype(np.uint8)


def _prior(shape: tuple[int, ...], head: Head, scale: float) -> Array:
    """Return what GrabCut starts from: its labels, one a pixel."""
    import cv2

    height, width = shape[:2]
    y, x = np.mgrid[0:height, 0:width] + 0.5
    right, down = x / scale - head.x, y / scale - head.y
    # From the neck the body widens to some two heads' widths; what is wider is found by its color.
    below = np.clip(down / head.along, 0, 2.2)
    body = (down > 0) & (np.abs(right) < head.across * (0.5 + 0.6 * below))
    labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    labels[body] = cv2.GC_PR_FGD
    reach = np.hypot(right / head.across, down / head.along)
    labels[reach < 1.1] = cv2.GC_PR_FGD
    labels[(reach < 0.75) & (down > -0.6 * head.along)] = cv2.GC_FGD
    # Beside and above the head nothing of the person reaches the image's edge.
    edge = max(1, round(0.02 * max(height, width)))
    rim = np.zeros((height, width), bool)
    rim[:edge], rim[:, :edge], rim[:, -edge:] = True, True, True
    labels[rim & (down < 0.9 * head.along) & (reach > 1.4)] = cv2.GC_BGD
    return labels


def _of_the_head(found: Array, head: Head, scale: float) -> Array:
    """Keep what hangs together with the head, its holes filled."""
    import cv2

    count, parts = cv2.connectedComponents(found, connectivity=4)
    if count < 2:
        return found
    row = min(max(int(head.y * scale), 0), found.shape[0] - 1)
    column = min(max(int(head.x * scale), 0), found.shape[1] - 1)
    label = parts[row, column] or 1 + int(np.argmax(np.bincount(parts[parts > 0])[1:]))
    kept = (parts == label).astype(np.uint8)
    # Small holes are eyes and teeth; large ones are what shows between arm and body.
    least = 0.002 * found.size
    number, holes, facts, _ = cv2.connectedComponentsWithStats(1 - kept, connectivity=4)
    for hole in range(1, number):
        left, top, wide, high, area = facts[hole]
        inside = left > 0 and top > 0 and left + wide < kept.shape[1] and top + high < len(kept)
        if inside and area < least:
            kept[holes == hole] = 1
    return kept


def _as_image(mask: Array) -> Any:
    from PIL import Image

    return Image.fromarray(mask, "L")
