"""How threads of the command line's own process wait for each other."""

from __future__ import annotations

import os
import sys

_POLICY = "OMP_WAIT_POLICY"  # OpenMP 5.2, section 21.7


def sleep_while_waiting() -> bool:
    """Let threads that wait for others sleep instead of spin, here and in child processes.

    Threads that spin burn the processors of whatever else runs, a ComfyUI or a browser, and the
    thread waited for is then itself kept waiting: on two cores beside one busy process two
    spinning threads compute a quarter of what two sleeping ones do.

    OpenMP reads this once, when it is loaded. What the user has set in the environment stays.
    This holds for the whole process: only who owns it, as the command line does, may call.

    Returns:
        Whether it was in time: torch, which carries its own OpenMP, was not yet loaded.
    """
    if "torch" in sys.modules:
        return False
    os.environ.setdefault(_POLICY, "PASSIVE")
    return True
