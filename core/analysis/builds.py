"""Says when one build of a library was installed over another, so that it is not what it seems.

``onnxruntime`` and ``onnxruntime-gpu`` write into one folder, as OpenCV's four builds do. An
installer does not see that: what was installed last is there, and the other is listed all the same.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Builds that all write into the folder ``cv2``."""
CPU_BUILD, GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
CUDA_PROVIDER = "CUDAExecutionProvider"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed; nothing is imported."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def opencv_fault(installed: Mapping[str, str]) -> str | None:
    """Say that several builds of OpenCV share their folder; ``None`` where it is one or none.

    Args:
        installed: The builds that are there, with their versions.
    """
    if len(installed) < 2:
        return None
    listed = ", ".join(f"{name} {number}" for name, number in installed.items())
    names = " ".join(installed)
    return (
        f"Several builds of OpenCV are installed in one folder, each over the others' files: "
        f"{listed}. Whatever was installed last is used, in parts. Keep one of them, with the "
        f"same Python: python -m pip uninstall -y {names} && python -m pip install "
        f"{next(iter(installed))}"
    )


def onnxruntime_fault(
    installed: Mapping[str, str], cards: int, providers: Sequence[str]
) -> str | None:
    """Say that faces are analysed on the CPU although a CUDA card is there; else ``None``.

    Args:
        installed: The builds that are there, with their versions.
        cards: How many CUDA cards there are.
        providers: What onnxruntime can compute with, by its own names.
    """
    if not cards or not installed or CUDA_PROVIDER in providers:
        return None
    both = CPU_BUILD in installed and GPU_BUILD in installed
    if both:
        what = (
            f"{CPU_BUILD} {installed[CPU_BUILD]} was installed over {GPU_BUILD} "
            f"{installed[GPU_BUILD]}, and has replaced it"
        )
    elif CPU_BUILD in installed:
        what = f"{CPU_BUILD} {installed[CPU_BUILD]} is the build for CPUs"
    else:
        what = f"{GPU_BUILD} {installed[GPU_BUILD]} does not find CUDA's libraries"
    return (
        f"A CUDA card is there, but onnxruntime cannot use it, so that faces are looked for on "
        f"the CPU: {what}. With the same Python: python -m pip uninstall -y "
        f"{' '.join(installed)} && python -m pip install {GPU_BUILD}"
    )


def cuda_cards() -> int:
    """Return how many CUDA cards the driver knows; torch is not imported."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value


@cache
def build_faults() -> tuple[str, ...]:
    """Return what is wrong with the builds of OpenCV and onnxruntime in this environment.

    onnxruntime is imported only where there is a CUDA card that it could use.
    """
    found = [opencv_fault(installed_versions(OPENCV))]
    cards = cuda_cards()
    if cards and find_spec("onnxruntime") is not None:
        import onnxruntime

        builds = installed_versions((CPU_BUILD, GPU_BUILD))
        found.append(onnxruntime_fault(builds, cards, onnxruntime.get_available_providers()))
    return tuple(fault for fault in found if fault is not None)
