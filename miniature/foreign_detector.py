"""An independent face detector, to judge drawn and generated portraits from outside."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=1)
def _mtcnn() -> Any:
    try:
        from facenet_pytorch import MTCNN
    except ImportError as error:
        raise ImportError(
            "counting faces with a foreign detector needs the package facenet-pytorch: "
            "pip install --no-deps facenet-pytorch"
        ) from error
    return MTCNN(keep_all=True, device="cpu", min_face_size=24)


def count_faces(image: NDArray[np.uint8], threshold: float = 0.9) -> int:
    """Count the faces that MTCNN, trained on photographs alone, finds.

    MTCNN: Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded
    Convolutional Networks", 2016; the weights come inside the facenet-pytorch package.

    Args:
        image: RGB (height, width, 3). Smaller than 256 pixels, it is enlarged to 256.
        threshold: Least probability of a face that counts.

    Returns:
        The number of faces.

    Raises:
        ImportError: facenet-pytorch is not installed.
    """
    import cv2

    detector = _mtcnn()
    if image.shape[0] < 256:
        factor = 256 / image.shape[0]
        image = np.asarray(
            cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC),
            dtype=np.uint8,
        )
    boxes, probabilities = detector.detect(np.ascontiguousarray(image))
    if boxes is None:
        return 0
    return int(np.sum(np.asarray(probabilities, dtype=float) > threshold))
