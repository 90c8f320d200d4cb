"""Procedural portraits with an exact face box and exact landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from . import vocabulary
from .drawing.background import draw_background
from .drawing.canvas import BODY, HEAD, Canvas
from .drawing.face import draw_ears, draw_features, draw_skin
from .drawing.hair import draw_back_hair, draw_front_hair
from .drawing.head import Head, make_head
from .drawing.light import apply_light
from .drawing.outfit import draw_body
from .identity import Identity
from .scene import Scene

# Height of the face and of its centre, in image heights.
_FRAMING = {"close-up": (0.63, 0.52), "bust": (0.49, 0.41), "half body": (0.375, 0.31)}


@dataclass(frozen=True)
class Portrait:
    """A drawn image and where its face lies."""

    image: NDArray[np.uint8]
    """RGB (size, size, 3)."""
    box: NDArray[np.float32]
    """The face, forehead to chin and ear to ear: x0, y0, x1, y1 in pixels."""
    landmarks: NDArray[np.float32]
    """(5, 2): left eye, right eye, nose tip, left and right mouth corner as the image shows."""


def render(identity: Identity, scene: Scene, size: int = 128, supersample: int = 2) -> Portrait:
    """Draw a person in a scene; the same arguments give the same pixels.

    Args:
        identity: Who.
        scene: Where and how.
        size: Height and width of the image in pixels.
        supersample: Factor at which the image is drawn before it is averaged down.

    Returns:
        The image with its face box and landmarks.
    """
    side = size * supersample
    height, centre_y = _FRAMING[scene.framing]
    scale = height * scene.zoom / 2 * side
    origin = ((0.5 + scene.shift_x) * side, (centre_y + scene.shift_y) * side)
    rng = np.random.default_rng(scene.background_seed)
    pixels = draw_background(side, scene.background, rng, blurred=scene.depth_of_field)
    box, landmarks = _draw_person(pixels, identity, scene, origin, scale)
    small = _shrunk(pixels, size)
    canvas = Canvas(small, (origin[0] / supersample, origin[1] / supersample), scale / supersample)
    image = apply_light(canvas, scene.light, 1 if scene.background_seed % 2 else -1)
    return Portrait(
        image,
        _clipped(box / supersample, size),
        (landmarks / supersample).astype(np.float32),
    )


def _shrunk(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    small = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _clipped(box: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    return np.clip(box, 0, size).astype(np.float32)


def _draw_person(
    pixels: NDArray[np.uint8],
    identity: Identity,
    scene: Scene,
    origin: tuple[float, float],
    scale: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw one person over the pixels; return box (4,) and landmarks (5, 2) in pixels."""
    base = Canvas(pixels, origin, scale)
    body = base.view(origin, scale, 0.0, BODY)
    canvas = base.view(origin, scale, scene.tilt, HEAD)
    head = make_head(identity, scene)
    draw_back_hair(canvas, head)
    lean = -0.12 * float(np.sin(head.yaw)) - 0.5 * scene.tilt
    draw_body(body, identity, scene.outfit, scene.outfit_color, lean)
    draw_ears(canvas, head)
    draw_skin(canvas, head)
    if abs(head.yaw) > 0.3:
        draw_ears(canvas, head)
    found = draw_features(canvas, head, scene)
    draw_front_hair(canvas, head)
    landmarks = canvas.to_pixels(
        np.array([found[k] for k in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")])
    )
    return _face_box(canvas, head), landmarks.astype(np.float32)


def _face_box(canvas: Canvas, head: Head) -> NDArray[np.float32]:
    outline = canvas.to_pixels(head.outline())
    low, high = outline.min(axis=0), outline.max(axis=0)
    return np.array([low[0], low[1], high[0], high[1]], np.float32)


def render_group(
    members: Sequence[tuple[Identity, Scene]], size: int = 128, supersample: int = 2
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Draw two or three people side by side, under the first one's light and background.

    Args:
        members: Two or three people with their scenes; framing is replaced by a fitting one.
        size: Height and width of the image in pixels.
        supersample: Factor at which the image is drawn before it is averaged down.

    Returns:
        The RGB image (size, size, 3), boxes (n, 4) and landmarks (n, 5, 2) in pixels.

    Raises:
        ValueError: There are fewer than two or more than three members.
    """
    if len(members) not in (2, 3):
        raise ValueError(f"a group has two or three members, not {len(members)}")
    side = size * supersample
    first = members[0][1]
    rng = np.random.default_rng(first.background_seed)
    pixels = draw_background(side, first.background, rng, blurred=first.depth_of_field)
    height, centres = (0.36, (0.27, 0.73)) if len(members) == 2 else (0.27, (0.18, 0.5, 0.82))
    boxes, landmarks = [], []
    light_side = 1 if first.background_seed % 2 else -1
    for centre, (identity, scene) in zip(centres, members, strict=True):
        scale = height * scene.zoom / 2 * side
        origin = ((centre + scene.shift_x * 0.4) * side, (0.42 + scene.shift_y * 1.5) * side)
        pixels[..., 3] = 0
        box, points = _draw_person(pixels, identity, scene, origin, scale)
        boxes.append(box / supersample)
        landmarks.append(points / supersample)
    pixels[..., 3] = 0
    small = _shrunk(pixels, size)
    image = apply_light(Canvas(small, (size / 2, size / 2), size / 3), first.light, light_side)
    return image, _clipped(np.stack(boxes), size), np.stack(landmarks).astype(np.float32)


def render_empty(
    rng: np.random.Generator, size: int = 128, supersample: int = 2
) -> NDArray[np.uint8]:
    """Draw a place without a person.

    Args:
        rng: Chooses and arranges the place.
        size: Height and width of the image in pixels.
        supersample: Factor at which the image is drawn before it is averaged down.

    Returns:
        RGB (size, size, 3) uint8.
    """
    side = size * supersample
    name = str(rng.choice(vocabulary.BACKGROUNDS))
    pixels = draw_background(side, name, rng, blurred=bool(rng.random() < 0.3))
    light = str(rng.choice(vocabulary.LIGHTS))
    small = _shrunk(pixels, size)
    canvas = Canvas(small, (size / 2, size / 2), size / 4)
    return apply_light(canvas, light, 1 if rng.random() < 0.5 else -1)
