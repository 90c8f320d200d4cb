"""Which of several faces an image is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..defaults import FaceChoice
from ..errors import CuratorError
from .faces import MOST_FACES, Faces
from .identities import References, normalised

REJECT: FaceChoice = "reject"
LARGEST: FaceChoice = "largest"
REFERENCE: FaceChoice = "reference"


class FaceChoiceError(CuratorError):
    """The face of the references is to be chosen, and there are none."""

    def __init__(self) -> None:
        super().__init__(
            "Of several faces the reference's is to be taken, but there is no reference image. "
            "Name one, or choose 'largest' or 'reject'."
        )


def chosen_face(
    choice: FaceChoice | None,
    faces: Faces,
    valid: Sequence[bool],
    identities: NDArray[np.float32] | None,
    target: References | None,
    least: float | None,
) -> tuple[int | None, NDArray[np.float32] | None, float | None]:
    """Choose one of several faces.

    Args:
        choice: How.
        faces: The faces, the most certain first.
        valid: Whether each is certain and large enough.
        identities: Vectors of the first of them, one after the other; ``None`` where none is known.
        target: Whom the images shall show.
        least: Least similarity to them.

    Returns:
        The face's position, or ``None`` where none is to be taken; its identity; and where none
        resembles the target enough, the greatest similarity there is.

    Raises:
        FaceChoiceError: A reference is needed, and there is none.
    """
    if choice == REFERENCE and target is None:
        raise FaceChoiceError
    candidates = [i for i, good in enumerate(valid) if good]
    if choice in (None, REJECT) or not candidates:
        return None, None, None
    vectors = None
    if identities is not None:
        vectors = identities.reshape(min(len(faces), MOST_FACES), -1)
    if choice == LARGEST:
        index = max(candidates, key=lambda i: np.prod(faces.sides(i)))
        known = vectors is not None and index < len(vectors)
        return index, vectors[index] if known and vectors is not None else None, None
    if vectors is None or target is None:
        return None, None, None
    candidates = [i for i in candidates if i < len(vectors)]
    if not candidates:
        return None, None, None
    near = target.similarity(normalised(vectors))
    index = max(candidates, key=lambda i: float(near[i]))
    best = float(near[index])
    if least is not None and best < least:
        return None, None, best
    return index, vectors[index], None
