"""Faces on ComfyUI's wires: boxes of several kinds, landmarks of the face mesh, and masks.

The shapes are those of ComfyUI's own detectors and of the packs that people have:

- BOUNDING_BOX: a list of lists, one an image, of ``{"x", "y", "width", "height"}`` in pixels; a
  flat list, or one box, where there is one image.
- FACE_LANDMARKS: ``{"frames": [[{"bbox_xyxy", "landmarks_xy"}]], "image_size": (height, width)}``.
- BBOX: the same lists with ``(left, top, right, bottom)`` instead.
- SEGS: ``((height, width), [SEG])`` of one image, where a SEG has ``bbox``.
- MASK: ``(n, height, width)``; each patch of it is a face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import CuratorError
from ..ui.given import InputsError

if TYPE_CHECKING:
    from ...core.analysis.given_faces import GivenFace

KINDS = ("BOUNDING_BOX", "FACE_LANDMARKS", "BBOX", "SEGS")
Size = tuple[int, int]

_MESH = ((33, 133), (263, 362), (1,), (61,), (291,))
"""Points of the face mesh whose means are the eyes, the nose tip and the mouth corners."""
_LARGEST = 2**31 - 1
_SOLID = 0.5
_SPECK = 0.1
"""Patches of a mask that are smaller than this part of its largest are no faces."""


class FaceWireError(CuratorError):
    """What is on the wire is no faces that can be read."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"'boxes' can't be read: {what}. Wire boxes (BOUNDING_BOX of ComfyUI's detectors, BBOX "
            "as left, top, right, bottom), FACE_LANDMARKS, or SEGS of one image."
        )


def faces_of_boxes(
    wire: Any, batch: Size, sizes: Sequence[Size], layout: str
) -> list[list[GivenFace]]:
    """Return the faces of each image.

    Args:
        wire: As the module says.
        batch: Width and height of the IMAGE batch that they were found in, where the wire does
            not say so itself.
        sizes: Width and height of the images themselves, which were scaled to cover that size and
            cropped around their center.
        layout: Which five points the pack has: landmarks of the mesh are left to it otherwise.

    Raises:
        FaceWireError: It is something else.
    """
    try:
        return _placed(*_read(wire, batch, len(sizes), layout), sizes)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise FaceWireError(f"something in it is of another shape ({error})") from error


def _read(
    wire: Any, batch: Size, count: int, layout: str
) -> tuple[list[list[tuple[Any, Any]]], Size]:
    """Return boxes and points an image, in pixels, and the size of the images they are of."""
    from ...core.analysis.poses import ARCFACE_LAYOUT

    frames: list[list[tuple[Any, Any]]] = []
    if isinstance(wire, Mapping) and "frames" in wire:
        high, wide = wire["image_size"]
        batch = _size(wide, high)
        known = layout == ARCFACE_LAYOUT
        frames = [
            [(face["bbox_xyxy"], _points(face["landmarks_xy"]) if known else None) for face in one]
            for one in wire["frames"]
        ]
    elif isinstance(wire, tuple) and len(wire) == 2 and _are_numbers(wire[0], 2):
        batch = _size(wire[0][1], wire[0][0])
        frames = [[(seg.bbox, None) for seg in wire[1]]]
    else:
        frames = [[(_corners(box), None) for box in one] for one in _nested(wire, count)]
    return frames, batch


def _size(wide: Any, high: Any) -> Size:
    """Return the size of a batch.

    Raises:
        FaceWireError: No image has such a size.
    """
    if not (1 <= wide <= _LARGEST and 1 <= high <= _LARGEST):
        raise FaceWireError(f"no image is {wide} x {high} pixels")
    return int(wide), int(high)


def faces_of_masks(masks: Any, sizes: Sequence[Size]) -> list[list[GivenFace]]:
    """Return the faces of each image: the patches of its mask, the largest first.

    Args:
        masks: MASK, ``(n, height, width)``.
        sizes: As of :func:`faces_of_boxes`.
    """
    import cv2

    frames = []
    for mask in masks.reshape(-1, *masks.shape[-2:]).cpu().numpy():
        solid = (mask >= _SOLID).astype(np.uint8)
        _, _, patches, _ = cv2.connectedComponentsWithStats(solid)
        patches = patches[1:]  # the first is what surrounds them
        least = _SPECK * max((int(patch[4]) for patch in patches), default=0)
        kept = sorted((p for p in patches if p[4] >= least), key=lambda p: -int(p[4]))
        frames.append([((p[0], p[1], p[0] + p[2], p[1] + p[3]), None) for p in kept])
    return _placed(frames, (int(masks.shape[-1]), int(masks.shape[-2])), sizes)


def wire_inputs(boxes: str, masks: str) -> list[Any]:
    """Return the two optional inputs on which a node takes faces that another has found.

    Args:
        boxes: What its tooltip says of boxes.
        masks: What it says of masks.
    """
    from comfy_api.latest import io

    kinds = [io.Custom(kind) for kind in KINDS]
    return [
        io.MultiType.Input("boxes", kinds, optional=True, tooltip=boxes),
        io.Mask.Input("masks", optional=True, tooltip=masks),
    ]


def faces_on_wires(images: Any, layout: str, boxes: Any, masks: Any) -> list[list[GivenFace]]:
    """Return the faces of each accepted image, as a node was given them.

    Args:
        images: The candidates.
        layout: Of the pack's points, as of :func:`faces_of_boxes`.
        boxes: What is on that wire, or None.
        masks: What is on the other, or None.

    Raises:
        FaceWireError: Boxes that are none.
        InputsError: Both are connected.
    """
    from ...core.analysis.decoding import read_image

    if boxes is not None and masks is not None:
        raise InputsError("Connect 'boxes' or 'masks', not both.")
    sizes = [read_image(path).shape[1::-1] for path in images.accepted.paths()]
    if masks is not None:
        return faces_of_masks(masks, sizes)
    return faces_of_boxes(boxes, sizes[0] if sizes else (1, 1), sizes, layout)


def _nested(wire: Any, count: int) -> list[list[Any]]:
    """Return boxes as a list an image."""
    if hasattr(wire, "tolist"):
        wire = wire.tolist()
    if _is_box(wire):
        wire = [wire]
    if not isinstance(wire, (list, tuple)):
        raise FaceWireError(f"it is a {type(wire).__name__}")
    if not wire:
        return [[]] * count if count == 1 else []
    return [list(wire)] if all(_is_box(box) for box in wire) else [list(one) for one in wire]


def _is_box(value: Any) -> bool:
    return (isinstance(value, Mapping) and "width" in value) or _are_numbers(value, 4)


def _are_numbers(value: Any, count: int) -> bool:
    sized = isinstance(value, (list, tuple, np.ndarray)) and len(value) == count
    return sized and all(isinstance(one, Real) for one in value)


def _corners(box: Any) -> tuple[float, float, float, float]:
    if hasattr(box, "tolist"):
        box = box.tolist()
    if isinstance(box, Mapping):
        try:
            left, top = float(box["x"]), float(box["y"])
            return left, top, left + float(box["width"]), top + float(box["height"])
        except KeyError as error:
            raise FaceWireError(f"a box has no {error}") from error
        except (TypeError, ValueError, ArithmeticError) as error:
            raise FaceWireError("a box has edges that are no numbers") from error
    if not _are_numbers(box, 4):
        raise FaceWireError(f"{str(box)[:60]} is no box")
    left, top, right, bottom = (float(edge) for edge in box)
    if right <= left or bottom <= top:
        raise FaceWireError(f"the box {left:g}, {top:g}, {right:g}, {bottom:g} has no area")
    return left, top, right, bottom


def _points(mesh: Any) -> np.ndarray:
    points = np.asarray(mesh, dtype=np.float64)
    five = np.stack([points[list(group)].mean(axis=0) for group in _MESH])
    # Left to right as the image shows, also where the face hangs upside down.
    for a, b in ((0, 1), (3, 4)):
        if five[a, 0] > five[b, 0]:
            five[[a, b]] = five[[b, a]]
    return five


def _placed(
    frames: Sequence[Sequence[tuple[Any, Any]]], batch: Size, sizes: Sequence[Size]
) -> list[list[GivenFace]]:
    """Return what was found in a batch as shares of the images that it was made of."""
    from ...core.analysis.given_faces import GivenFace

    if len(frames) != len(sizes):
        from ...core.analysis.given_faces import GivenFacesError

        raise GivenFacesError(len(frames), len(sizes))
    placed = []
    for found, (wide, high) in zip(frames, sizes, strict=True):
        # The part of the image that covers the batch, in the image's pixels.
        across, down = min(wide, high * batch[0] / batch[1]), min(high, wide * batch[1] / batch[0])
        start = np.array([(wide - across) / 2, (high - down) / 2])
        scale = np.array([across / batch[0], down / batch[1]])
        own = np.array([wide, high], dtype=np.float64)
        faces = []
        for box, points in found:
            corners = (np.asarray(box, np.float64).reshape(2, 2) * scale + start) / own
            if not np.isfinite(corners).all():
                raise FaceWireError("a box has edges that are no numbers")
            corners = np.clip(corners, 0.0, 1.0)
            marks = None if points is None else (points * scale + start) / own
            faces.append(
                GivenFace(
                    tuple(corners.ravel().tolist()),
                    None if marks is None else tuple((float(x), float(y)) for x, y in marks),
                )
            )
        placed.append(faces)
    return placed
