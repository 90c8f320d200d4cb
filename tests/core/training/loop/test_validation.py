"""Validation: fixed noise and timesteps, the epoch of convergence, patience."""

from __future__ import annotations

import pytest
import torch

from character_curator.features import FeatureStore
from character_curator.training.data.cache import EncodedFeatures
from character_curator.training.data.order import draw
from character_curator.training.loop.modes import training_modes
from character_curator.training.loop.validation import Patience, convergence, validation_loss
from character_curator.training.settings import TrainingSettings
from tests.support.tiny_denoiser import TinyDenoiser, make_examples

SETTINGS = TrainingSettings(resolution=64)


@pytest.fixture
def measured(tmp_path):
    denoiser = TinyDenoiser()
    examples = make_examples(tmp_path, 5, ((64, 64), (64, 128)))
    items = [(example, example.crop(SETTINGS)) for example in examples]
    features = EncodedFeatures(denoiser, FeatureStore())
    features.add_images(items)
    features.add_captions([example.caption for example in examples])
    return denoiser, items, features


def measure(denoiser, items, features, batch_size=3, timesteps=4):
    with training_modes([denoiser.network], False):
        return validation_loss(
            denoiser,
            items,
            features.latents,
            features.text,
            timesteps=timesteps,
            batch_size=batch_size,
            device=denoiser.device,
        )


def test_equals_its_definition(measured):
    denoiser, items, features = measured
    losses = []
    denoiser.network.eval()
    for item in items:
        clean = features.latents([item])
        for k, time in enumerate([125, 375, 625, 875]):
            source = torch.Generator().manual_seed(draw("validation noise", item[0].hash, k))
            noise = torch.randn(clean.shape[1:], generator=source)[None]
            alpha = denoiser.alphas[time]
            noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
            text = denoiser.encode_text([item[0].caption])["hidden"]
            with torch.no_grad():
                found = denoiser.network(noisy, torch.tensor([time / 1000]), text)
            losses.append(float(((found - noise) ** 2).mean()))
    assert measure(*measured) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_depends_on_neither_batch_nor_order_nor_random_state(measured):
    denoiser, items, features = measured
    torch.manual_seed(1)
    first = measure(*measured)
    torch.manual_seed(2)
    assert measure(*measured) == first
    assert measure(denoiser, items[::-1], features) == first
    assert measure(denoiser, items, features, batch_size=1) == pytest.approx(first, rel=1e-6)
    with torch.no_grad():
        denoiser.network.last.weight.add_(0.1)
    assert measure(*measured) != first


def test_convergence_on_a_known_course():
    # Falls by a tenth of the way an epoch, to 0.5, and stays there.
    losses = [max(0.5, 1 - 0.05 * epoch) for epoch in range(31)]
    found = convergence(range(31), losses, tolerance=0.05)
    # The median over three ends takes the middle of a straight line, so nothing shifts.
    assert (found.epoch, found.plateau, found.start, found.settled) == (10, 0.5, 1.0, True)
    assert convergence(range(31), losses, tolerance=0.2).epoch == 8


def test_convergence_looks_past_one_lucky_epoch():
    losses = [1 - 0.02 * epoch for epoch in range(31)]
    losses[4] = 0.1
    found = convergence(range(31), losses)
    assert found.epoch > 25
    assert not found.settled


def test_convergence_is_a_share_of_the_improvement_whatever_the_level():
    course = [1.0, 0.6, 0.35, 0.2, 0.12, 0.1, 0.1, 0.1, 0.1, 0.1]
    epochs = [e.epoch for e in (convergence(range(10), [a + 100 for a in course]),
                                convergence(range(10), [a * 1e-3 for a in course]))]  # fmt: skip
    assert epochs == [4, 4]


@pytest.mark.parametrize(
    ("epochs", "losses"),
    [([0], [1.0]), ([], []), ([0, 1, 2], [1.0, 1.1, 1.2]), ([0, 1], [1.0, 1.0])],
    ids=["before training only", "nothing", "rising", "flat"],
)
def test_no_convergence(epochs, losses):
    assert convergence(epochs, losses) is None


def test_convergence_between_rare_validations():
    assert convergence([0, 5, 10, 15, 20], [1, 0.5, 0.2, 0.2, 0.2]).epoch == 10


def test_patience_counts_validations_without_a_real_improvement():
    patience = Patience(limit=2, min_improvement=0.1)
    seen = [patience.is_over(loss) for loss in (1.0, 0.85, 0.8, 0.7, 0.69, 0.68)]
    assert seen == [False, False, False, False, False, True]
    endless = Patience(limit=None, min_improvement=0.1)
    assert not any(endless.is_over(1.0) for _ in range(100))


def test_an_improvement_is_a_share_of_the_loss():
    patience = Patience(limit=1, min_improvement=0.1)
    assert [patience.is_over(loss) for loss in (0.01, 0.0085, 0.008)] == [False, False, True]


def test_a_fifth_of_the_run_behind_convergence_makes_a_plateau():
    # Flat from epoch 8 on: of ten epochs two are left, of nine one.
    losses = [max(0.2, 1 - 0.1 * epoch) for epoch in range(11)]
    found = convergence(range(11), losses)
    assert (found.epoch, found.settled) == (8, True)
    assert not convergence(range(10), losses[:10]).settled
