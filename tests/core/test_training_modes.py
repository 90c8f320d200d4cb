"""How a process is set while it trains."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from character_curator.training.modes import freed_memory_kept

MIB = 2**20


def held():
    """Memory of this process that is no file's, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def use_and_free(mib=256):
    torch.ones(mib * MIB // 4).sum()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_what_a_step_frees_is_there_for_the_next_one_and_given_back_in_the_end():
    use_and_free()
    before = held()
    with freed_memory_kept(torch.device("cpu")):
        use_and_free()
        kept = held()
    after = held()
    assert kept > before + 200
    assert after < before + 64
    use_and_free()
    assert held() < before + 64


def test_memory_of_an_accelerator_is_its_own_business():
    before = held() if Path("/proc/self/status").exists() else 0
    with freed_memory_kept(torch.device("cuda")):
        use_and_free()
        if before:
            assert held() < before + 64
