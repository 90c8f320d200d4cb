"""The command line's process keeps the memory that training frees, after its first step.

In processes of their own: what a training did to the allocator stays, and others have trained here.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest
import torch

START = """
import psutil
import torch

from character_curator.cli.memory import freed_memory_kept, kept_while_training
from character_curator.training.result import StepReport

MIB = 2**20
STEP = StepReport(1, 1, 2, 0.1, 1e-4, 1.0, 1, 1.0)


def held():
    # Memory that is this process's alone, in MiB; on every system.
    return psutil.Process().memory_full_info().uss / MIB


def use_and_free(mib=256):
    torch.ones(mib * MIB // 4).sum()


use_and_free()
before = held()
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")


def run(program):
    command = [sys.executable, "-c", START + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@glibc
def test_what_a_step_frees_is_there_for_the_next_one_and_given_back_in_the_end():
    run("""
        with freed_memory_kept():
            use_and_free()
            kept = held()
        after = held()
        assert kept > before + 200, (before, kept)
        assert after < before + 64, (before, after)
        use_and_free()
        assert held() < before + 64
    """)


@glibc
@pytest.mark.skipif(torch.cuda.is_available(), reason="an accelerator has memory of its own")
def test_memory_is_kept_from_the_first_step_to_the_end_of_the_training():
    run("""
        with kept_while_training() as callbacks:
            use_and_free()
            assert held() < before + 64
            callbacks.on_step(STEP)
            use_and_free()
            assert held() > before + 200
            callbacks.on_step(STEP)
        assert held() < before + 64
    """)
