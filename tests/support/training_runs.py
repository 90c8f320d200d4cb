"""Short trainings of the tiny denoiser, and how their weights compare."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from character_curator.training import TrainingSettings, train
from tests.support.tiny_denoiser import TinyDenoiser

SETTINGS = TrainingSettings(
    epochs=4,
    batch_size=2,
    accumulation=2,
    learning_rate=5e-3,
    resolution=64,
    schedule="cosine",
    warm_up=2,
    min_snr_gamma=5.0,
    noise_offset=0.05,
    face_weight=2.0,
    caption_dropout=0.2,
    ema_decay=0.95,
    validation_share=0.2,
    validation_timesteps=4,
    save_every=1,
)
SIZES = ((64, 64), (64, 128))


def run(examples, folder, settings=SETTINGS, denoiser=None, **options):
    """Train the tiny denoiser, or what is given; return the result and the denoiser."""
    denoiser = denoiser or TinyDenoiser()
    return train(denoiser, denoiser.parameters, examples, settings, folder, **options), denoiser


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file that a training has left."""
    return load_file(path)


def assert_same(first: Path, second: Path, same: bool = True) -> None:
    """Insist that two files hold the same tensors to the bit (or that they do not)."""
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a) is same
