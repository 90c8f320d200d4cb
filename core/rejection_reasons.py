"""Why an image is not in the result: the reasons, and how they are said."""

from __future__ import annotations

from enum import Enum


class Rejection(str, Enum):
    """Why an image is not in the result."""

    UNREADABLE = "unreadable"
    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    LOW_CONFIDENCE = "low_confidence"
    FACE_TOO_SMALL = "face_too_small"
    IDENTITY_MISMATCH = "identity_mismatch"
    OTHER_SUBJECT = "other_subject"
    LOW_QUALITY = "low_quality"
    NO_CROP = "no_crop"
    BARS = "bars"
    SEVERAL_IMAGES = "several_images"
    TEXT = "text"
    DUPLICATE = "duplicate"
    QUOTA = "quota"
    VETO = "veto"

    def __str__(self) -> str:
        return self.value


WITHOUT_ONE_FACE = (
    Rejection.UNREADABLE,
    Rejection.NO_FACE,
    Rejection.SEVERAL_FACES,
    Rejection.LOW_CONFIDENCE,
    Rejection.FACE_TOO_SMALL,
)
"""Reasons of images that do not show one certain face, whoever it is of."""


def in_words(reason: str) -> str:
    """Return a reason as people read it, such as "no face"."""
    return str(reason).replace("_", " ")
