"""Fixtures that several test modules share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory):
    """The folder of a random StableDiffusionPipeline."""
    import tiny_models

    return tiny_models.save_sd15(tmp_path_factory.mktemp("models") / "sd15")


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory):
    """The folder of a random StableDiffusionXLPipeline."""
    import tiny_models

    return tiny_models.save_sdxl(tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory):
    """The folder of a random FluxPipeline."""
    import tiny_models

    return tiny_models.save_flux(tmp_path_factory.mktemp("models") / "flux")


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """The library, with its caches here, and no network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda *args, **kwargs: datasets.load_dataset(
        *args, cache_dir=str(tmp_path / "cache"), **kwargs
    )
