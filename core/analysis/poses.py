"""Framing and pose, from the face's share of the image and its five landmarks."""

from __future__ import annotations

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
