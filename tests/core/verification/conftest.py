"""A small dataset with its LoRA, made once; a copy of it for each test to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from character_curator.miniature import CLIP_PATH, DIFFUSION_PATH
from tests.support.small_run import run_small


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The folder of the run; to be read only."""
    if not (DIFFUSION_PATH.is_dir() and CLIP_PATH.is_dir()):
        pytest.skip("the miniature's weights are not here")
    return run_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def dataset(whole, tmp_path) -> Path:
    """A copy of the dataset."""
    return Path(shutil.copytree(whole / "out" / "dataset", tmp_path / "dataset"))


@pytest.fixture
def lora(whole, tmp_path) -> Path:
    """A copy of the LoRA file with the notes of its training."""
    shutil.copytree(whole / "out" / "small.work", tmp_path / "small.work")
    return Path(shutil.copy(whole / "out" / "small.safetensors", tmp_path))
