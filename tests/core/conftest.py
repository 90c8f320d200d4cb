"""Fixtures that several test modules share."""

from __future__ import annotations

import os

import pytest


def made_once(factory, name, make):
    """Return the folder ``name`` that all workers of a run share; the first that needs it makes it.

    Two that need it at the same moment both make it, and the slower takes the other's.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each worker has a folder of its own in the run's
    folder = shared / name
    if not folder.exists():
        own = make(factory.mktemp("models") / name)
        try:
            own.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    return folder


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory):
    """The folder of a random StableDiffusionPipeline; to be read only."""
    from tests.support import tiny_models

    return made_once(tmp_path_factory, "tiny-sd15", tiny_models.save_sd15)


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory):
    """The folder of a random StableDiffusionXLPipeline; to be read only."""
    from tests.support import tiny_models

    return made_once(tmp_path_factory, "tiny-sdxl", tiny_models.save_sdxl)


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory):
    """The folder of a random FluxPipeline; to be read only."""
    from tests.support import tiny_models

    return made_once(tmp_path_factory, "tiny-flux", tiny_models.save_flux)


def _flow_fixture(name):
    @pytest.fixture(scope="session", name=name)
    def folder(tmp_path_factory):
        from tests.support.tiny_flows import FLOWS

        return made_once(tmp_path_factory, name.replace("_", "-"), FLOWS[name])

    return folder


tiny_sd3 = _flow_fixture("tiny_sd3")
tiny_chroma = _flow_fixture("tiny_chroma")
tiny_qwen_image = _flow_fixture("tiny_qwen_image")
tiny_z_image = _flow_fixture("tiny_z_image")
tiny_flux2 = _flow_fixture("tiny_flux2")
tiny_flux2_klein = _flow_fixture("tiny_flux2_klein")


@pytest.fixture
def examples(tmp_path):
    """Ten images of two sizes, as the training loop takes them."""
    from tests.support.tiny_denoiser import make_examples
    from tests.support.training_runs import SIZES

    return make_examples(tmp_path / "pictures", 10, SIZES)


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """The library, with its caches here, and no network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda *args, **kwargs: datasets.load_dataset(
        *args, cache_dir=str(tmp_path / "cache"), **kwargs
    )
