"""Framing and pose, from the face's size in the image and its five landmarks.

For drawn portraits both have measures and limits of their own. In photographs the head's angles are
solved for with a model of five points in space, which any detector's landmarks fit that name their
layout, and the framing follows from the face's height.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

FRAMINGS = (("close-up", 0.22), ("bust", 0.135), ("half body", 0.02), ("full body", 0.0))
"""Names and the least share of the image's area that the face box takes."""

THREE_QUARTER_FROM = 0.13
"""Least absolute :func:`yaw` of a three-quarter view: about 12 degrees."""

PROFILE_FROM = 0.40
"""Least absolute :func:`yaw` of a side view: about 33 degrees.

From there on a drawn head counts as a profile. For photographs, where a head turns by 90 degrees,
0.75 (50 degrees) is nearer to common use.
"""


FRAMINGS_BY_HEIGHT = (
    ("close-up", 0.60), ("bust", 0.34), ("half body", 0.15), ("full body", 0.0)
)  # fmt: skip
"""Names and the least height of the face box over the image's, in photographs: right for 58 of 60
photographs that were labelled by eye."""

THREE_QUARTER_DEGREES, PROFILE_DEGREES = 15.0, 50.0
"""Least angle by which a head in a photograph is turned: of a three-quarter view, of a profile."""

ARCFACE_LAYOUT, DLIB_LAYOUT = "arcface", "dlib"
HEADS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    ARCFACE_LAYOUT: (
        (-0.50, 0.0, 0.0), (0.50, 0.0, 0.0), (0.0, 0.60, -0.45), (-0.42, 1.0, -0.02),
        (0.42, 1.0, -0.02),
    ),
    DLIB_LAYOUT: (
        (0.67, 0.02, 0.05), (0.28, 0.04, -0.03), (-0.67, 0.02, 0.05), (-0.28, 0.04, -0.03),
        (0.0, 0.80, -0.30),
    ),
}  # fmt: skip
"""Where the landmarks of each layout lie on a head that looks at the camera: right, down and away
from it, in distances between the eyes. Across and down they are medians over photographs; in depth
they are those of the usual five-point model of a head."""


def framing_by_height(ratio: float) -> str:
    """Name the framing of a photograph.

    Args:
        ratio: Height of the face box, from forehead to chin, over height of the image.
    """
    return next(name for name, least in FRAMINGS_BY_HEIGHT if ratio >= least)


def head_angles(landmarks: ArrayLike, layout: str = ARCFACE_LAYOUT) -> tuple[float, float, float]:
    """Solve for the angles of a head in space.

    Args:
        landmarks: Five points in pixels, shape ``(5, 2)``.
        layout: Which points they are: a key of :data:`HEADS`.

    Returns:
        Yaw, pitch and roll in degrees: turned to the right of the image, looking down, tilted
        clockwise. NaN when there are no landmarks.
    """
    import cv2

    unknown = (float("nan"),) * 3
    points: NDArray[np.float64] = np.asarray(landmarks, dtype=np.float64).reshape(5, 2)
    if not np.isfinite(points).all():
        return unknown
    head = np.array(HEADS[layout])
    centred, flat = points - points.mean(0), head[:, :2] - head[:, :2].mean(0)
    scale = float(np.sqrt((centred**2).sum() / (flat**2).sum()))
    if scale < 1e-6:
        return unknown
    # A camera twelve eye distances away: the usual perspective of a portrait.
    away = 12.0
    camera = np.array([[away * scale, 0, 0], [0, away * scale, 0], [0, 0, 1.0]])
    start = np.append(-head.mean(0)[:2], away)
    turn = np.array([0.0, 0.0, _tilt(centred, flat)])
    _, turn, _ = cv2.solvePnP(
        head, centred, camera, None, turn, start, useExtrinsicGuess=True,
        flags=cv2.SOLVEPNP_ITERATIVE,
    )  # fmt: skip
    rotation = np.asarray(cv2.Rodrigues(turn)[0], dtype=np.float64)
    roll = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    # Where the face looks, against the axis that leads away from the camera, with the tilt undone.
    along, over, away = (float(value) for value in -rotation[:, 2])
    right = along * np.cos(roll) + over * np.sin(roll)
    down = over * np.cos(roll) - along * np.sin(roll)
    turned = np.degrees(np.arctan2(right, -away))
    pitch = np.degrees(np.arctan2(down, np.hypot(right, away)))
    return float(turned), float(pitch), float(np.degrees(roll))


def layout_of(landmarks: ArrayLike) -> str:
    """Tell which points five landmarks are: the layout of :data:`HEADS` that they fit better.

    Args:
        landmarks: Five points in pixels, shape ``(5, 2)``.
    """
    points: NDArray[np.float64] = np.asarray(landmarks, dtype=np.float64).reshape(5, 2)
    flat = (points - points.mean(0)) @ np.array([1, 1j])
    spread = max(float(np.vdot(flat, flat).real), 1e-12)

    def residual(layout: str) -> float:
        model = np.array(HEADS[layout])[:, :2] @ np.array([1, 1j])
        model = model - model.mean()
        # Least squares over scale and turn, as complex numbers.
        fit = np.vdot(model, flat) / np.vdot(model, model).real
        return float(np.abs(flat - fit * model).__pow__(2).sum()) / spread

    return min(HEADS, key=residual)


def _tilt(points: NDArray[np.float64], model: NDArray[np.float64]) -> float:
    """Return the angle in the image that turns a model onto points best, in radians."""
    cross = float((model[:, 0] * points[:, 1] - model[:, 1] * points[:, 0]).sum())
    return float(np.arctan2(cross, float((model * points).sum())))


def framing(share: float) -> str:
    """Name the framing of an image.

    Args:
        share: Area of the face box over area of the image.
    """
    return next(name for name, least in FRAMINGS if share >= least)


def pose(
    turn: float, three_quarter: float = THREE_QUARTER_FROM, profile: float = PROFILE_FROM
) -> str:
    """Name the pose of a head: ``frontal``, ``three-quarter`` or ``profile``.

    Args:
        turn: Its yaw as of :func:`yaw`.
        three_quarter: Least absolute yaw of a three-quarter view.
        profile: Least absolute yaw of a profile.
    """
    if abs(turn) >= profile:
        return "profile"
    return "three-quarter" if abs(turn) >= three_quarter else "frontal"


def yaw(landmarks: ArrayLike) -> float:
    """Estimate how far a head is turned.

    The nose tip stands out from the plane of eyes and mouth, so a turn of the head moves it off
    the middle between left and right: by ``d sin(yaw)``, while half the distance from left to
    right shrinks to ``e cos(yaw)``. Their ratio, ``d/e tan(yaw)`` with ``d/e`` about 0.6, is
    measured along the line through the eyes, so that a tilt of the head does not matter.

    Args:
        landmarks: Two eyes, nose tip, two mouth corners, shape ``(5, 2)``, in pixels.

    Returns:
        0 for a frontal face, 1 for a full profile turned towards the right of the image, -1
        towards the left; NaN when there are no landmarks.
    """
    points: NDArray[np.float64] = np.asarray(landmarks, dtype=np.float64).reshape(5, 2)
    if not np.isfinite(points).all():
        return float("nan")
    left, right = (points[0] + points[3]) / 2, (points[1] + points[4]) / 2
    down = (points[3] + points[4] - points[0] - points[1]) / 2
    height = float(np.linalg.norm(down))
    if height < 1e-6:
        return float("nan")
    # Across the face: at right angles to the line from the eyes down to the mouth, which keeps
    # its direction in a profile, where the two eyes coincide.
    across = np.array([down[1], -down[0]]) / height
    half_width = max(float((right - left) @ across) / 2, 0.05 * height)
    offset = float((points[2] - (left + right) / 2) @ across)
    return float(np.clip(offset / half_width, -1.0, 1.0))
