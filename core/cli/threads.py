"""What libraries in the command line's own process are told before they are loaded."""

from __future__ import annotations

import os
import sys

_TURNS, _POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
_FEW = "3000"
"""Turns that a waiting thread spins before it sleeps, some 0.1 ms. With GNU's default of 300,000
two threads beside one busy program compute half as much, and beside four a quarter; without any
turn they lose 30 % where nothing else runs, for most of torch's operations are shorter than it
takes to wake a thread (``benchmarks/shared_processors.py``)."""


def spin_briefly() -> bool:
    """Let threads that wait for others soon sleep, here and in child processes.

    Threads that spin burn the processors of whatever else runs, a ComfyUI or a browser, and the
    thread waited for is then itself kept waiting. This is about GNU's OpenMP, which torch brings
    along on Linux, and which reads the environment once, when it is loaded. What the user has set
    there stays. It holds for the whole process: only who owns it, as the command line does, may
    call.

    Returns:
        Whether it was in time: torch was not yet loaded.
    """
    if "torch" in sys.modules:
        return False
    if _POLICY not in os.environ:
        os.environ.setdefault(_TURNS, _FEW)
    return True


def quiet_decoders() -> bool:
    """Let OpenCV write nothing of its own to stderr, here and in child processes.

    While it decodes images it says there what it makes of them, through bars and in spite of
    ``--quiet``. An image that it cannot decode is rejected, which says why. OpenCV reads the
    environment once, when it is loaded; what the user has set there stays. It holds for the whole
    process: only who owns it, as the command line does, may call.

    Returns:
        Whether it was in time: OpenCV was not yet loaded.
    """
    if "cv2" in sys.modules:
        return False
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    return True
