"""Libraries that a node needs: without one of them that node says so, and the others work."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

_PACKAGES = {
    "cv2": "opencv-python",
    "open_clip": "open-clip-torch",
    "sklearn": "scikit-learn",
}


def missing_libraries(names: Sequence[str]) -> str | None:
    """Say which of some libraries are not installed and how to get them; None if all are there.

    Nothing is imported.
    """
    absent = [name for name in names if find_spec(name) is None]
    if not absent:
        return None
    packages = " ".join(_PACKAGES.get(name, name) for name in absent)
    return (
        f"This node needs {', '.join(absent)}, which is not installed in ComfyUI's environment. "
        f"Install it there with: python -m pip install {packages}"
    )
