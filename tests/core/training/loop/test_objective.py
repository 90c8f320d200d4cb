"""The objective, the schedules and the average, against independent definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from character_curator.training.data.buckets import Size
from character_curator.training.loop.objective import (
    draw_noise,
    face_mask,
    huber_deltas,
    min_snr_weights,
    row_losses,
    row_weights,
)
from character_curator.training.loop.optimizers import make_optimizer, set_rate
from character_curator.training.loop.schedule import lr_factor
from character_curator.training.settings import SettingsError, TrainingSettings
from tests.support.tiny_denoiser import TinyDenoiser


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_loss_on_x0_by_the_capped_ratio(gamma, prediction):
    """Weight * loss on the prediction = min(snr, gamma) * loss on x0, at every timestep."""
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[::37]
    rng = np.random.default_rng(0)
    clean, noise, guess = rng.normal(size=(3, len(alphas)))
    for i, alpha in enumerate(alphas):
        a, s = math.sqrt(alpha), math.sqrt(1 - alpha)
        noisy = a * clean[i] + s * noise[i]
        if prediction == "epsilon":
            loss = (guess[i] - noise[i]) ** 2
            x0 = (noisy - s * guess[i]) / a
        else:
            loss = (guess[i] - (a * noise[i] - s * clean[i])) ** 2
            x0 = a * noisy - s * guess[i]
        snr = alpha / (1 - alpha)
        weight = float(min_snr_weights(torch.tensor([snr]), gamma, prediction)[0])
        assert weight * loss == pytest.approx(min(snr, gamma) * (x0 - clean[i]) ** 2, rel=1e-4)


def test_min_snr_at_zero_terminal_ratio():
    snr = torch.tensor([0.0, 2.0, 50.0])
    assert min_snr_weights(snr, 5.0, "epsilon").tolist() == pytest.approx([1, 1, 0.1])
    assert min_snr_weights(snr, 5.0, "v_prediction").tolist() == pytest.approx([0, 2 / 3, 5 / 51])
    with pytest.raises(ValueError, match="flow"):
        min_snr_weights(snr, 5.0, "flow")


def test_prior_weight_and_ratio_belong_to_the_same_row():
    snr = torch.tensor([10.0, 2.0, 20.0])
    weights = row_weights([True, False, False], 0.25, snr, 5.0, "epsilon")
    assert weights.tolist() == pytest.approx([0.125, 1.0, 0.25])
    assert row_weights([True, False], 0.25).tolist() == [0.25, 1.0]
    with pytest.raises(ValueError, match=r"\(6,\) signal-to-noise ratios for 3"):
        row_weights([True, False, False], 0.25, torch.ones(6), 5.0)


def test_noise_offset_adds_a_constant_with_its_deviation():
    shape = (400, 4, 8, 8)
    plain = draw_noise(shape, 0.0, torch.Generator().manual_seed(1))
    moved = draw_noise(shape, 0.3, torch.Generator().manual_seed(1))
    difference = moved - plain
    assert difference.std((2, 3)).max() < 1e-6
    assert float(difference.mean((2, 3)).std()) == pytest.approx(0.3, rel=0.05)
    assert float(plain.std()) == pytest.approx(1, rel=0.01)


@given(
    st.tuples(*[st.floats(0, 1) for _ in range(4)]),
    st.sampled_from([(8, 8), (4, 12), (16, 6)]),
    st.floats(0.1, 20),
)
def test_face_mask_is_the_mean_over_pixels(edges, latent, weight):
    """Reference: the mask pixel by pixel at 64 times the resolution, averaged down."""
    height, width = latent
    size = Size(width * 8, height * 8)
    x0, x1 = sorted((round(edges[0] * size.width * 8), round(edges[1] * size.width * 8)))
    y0, y1 = sorted((round(edges[2] * size.height * 8), round(edges[3] * size.height * 8)))
    fine = np.ones((size.height * 8, size.width * 8))
    fine[y0:y1, x0:x1] = weight
    expected = fine.reshape(height, 64, width, 64).mean((1, 3))
    mask = face_mask([(x0 / 8, y0 / 8, x1 / 8, y1 / 8), None], size, latent, weight)
    assert mask.shape == (2, 1, height, width)
    np.testing.assert_allclose(mask[0, 0], expected / expected.mean(), rtol=1e-4)
    assert (mask[1] == 1).all()


def test_losses_are_means_over_a_row():
    a, b = torch.randn(2, 3, 4, 8, 6, dtype=torch.float64).bfloat16()
    expected = [float(((x.float() - y.float()) ** 2).mean()) for x, y in zip(a, b, strict=True)]
    assert row_losses(a, b).tolist() == pytest.approx(expected)
    mask = torch.zeros(3, 1, 8, 6)
    mask[:, :, 2:4] = 4.0
    part = [float(((x.float() - y.float())[:, 2:4] ** 2).mean()) for x, y in zip(a, b, strict=True)]
    assert row_losses(a, b, mask).tolist() == pytest.approx(part, rel=1e-5)


@pytest.mark.parametrize("frames", [(), (2,)])
@pytest.mark.parametrize("loss", ["huber", "smooth_l1"])
def test_huber_losses_are_twice_torchs_own_and_keep_the_mask(loss, frames):
    generator = torch.Generator().manual_seed(2)
    shape = (3, 4, *frames, 8, 6)
    a, b = torch.randn(2, *shape, generator=generator, dtype=torch.float64).bfloat16()
    delta = torch.tensor([0.1, 0.7, 30.0])
    faces = [(0.0, 0.0, 20.0, 30.0), None, (8.0, 8.0, 40.0, 64.0)]
    mask = face_mask(faces, Size(48, 64), (8, 6), 3.0)
    for weights in (None, mask):
        found = row_losses(a, b, weights, loss=loss, delta=delta)
        for row in range(3):
            x, y, limit = a[row].float(), b[row].float(), float(delta[row])
            if loss == "huber":
                expected = 2 * F.huber_loss(x, y, reduction="none", delta=limit)
            else:
                expected = 2 * F.smooth_l1_loss(x, y, reduction="none", beta=limit)
            if weights is not None:
                expected = expected * weights[row, 0]
            assert float(found[row]) == pytest.approx(float(expected.mean()), rel=1e-5)
    large = row_losses(a, b, mask, loss="huber", delta=torch.full((3,), 100.0))
    assert torch.allclose(large, row_losses(a, b, mask)), "far from delta it is the square"


def test_huber_has_the_gradient_of_torchs_own():
    prediction = torch.linspace(-2, 2, 41, requires_grad=True)
    target = torch.zeros(1, 41)
    own = row_losses(prediction[None], target, loss="huber", delta=torch.tensor([0.5])).sum()
    (found,) = torch.autograd.grad(own, prediction)
    (expected,) = torch.autograd.grad(
        2 * F.huber_loss(prediction[None], target, delta=0.5), prediction
    )
    assert torch.allclose(found, expected)


def test_huber_schedules_are_those_of_kohyas_scripts():
    """Against their formulas, with their alphas: sigma is sqrt((1 - alpha) / alpha)."""
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    times = torch.tensor([0, 250, 999])
    snr = torch.from_numpy(alphas[times] / (1 - alphas[times]))
    c = 0.1
    assert huber_deltas("constant", c, times, None).tolist() == pytest.approx([c] * 3)
    rate = -math.log(c) / 1000
    expected = [math.exp(-rate * t) for t in times.tolist()]
    assert huber_deltas("exponential", c, times, None).tolist() == pytest.approx(expected)
    sigmas = ((1 - alphas[times]) / alphas[times]) ** 0.5
    expected = (1 - c) / (1 + sigmas) ** 2 + c
    assert huber_deltas("snr", c, times, snr).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    nothing = huber_deltas("snr", c, times[:1], torch.zeros(1))
    assert nothing.tolist() == pytest.approx([c]), "zero terminal ratio"
    with pytest.raises(SettingsError, match="'constant' or 'exponential'"):
        huber_deltas("snr", c, times, None)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedule_against_torch(schedule):
    total, warm_up = 50, 7
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    lr = torch.optim.lr_scheduler
    rest = {
        "constant": lr.ConstantLR(optimizer, 1.0),
        "linear": lr.LinearLR(optimizer, 1.0, 0.0, total - warm_up),
        "cosine": lr.CosineAnnealingLR(optimizer, total - warm_up),
    }[schedule]
    rise = lr.LambdaLR(optimizer, lambda step: (step + 1) / warm_up)
    reference = lr.SequentialLR(optimizer, [rise, rest], [warm_up])
    for step in range(total):
        factor = lr_factor(step, total, schedule, warm_up)
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        reference.step()
    assert lr_factor(10 * total, total, schedule, warm_up) == (1 if schedule == "constant" else 0)


def test_text_encoders_have_their_own_rate():
    denoiser = TinyDenoiser()
    text = dict(denoiser.text.named_parameters())
    settings = TrainingSettings(learning_rate=1e-3, text_learning_rate=1e-5)
    optimizer = make_optimizer({**denoiser.parameters, **text}, settings, text.values())
    set_rate(optimizer, 0.5)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert {rates[id(p)] for p in text.values()} == {0.5e-5}
    assert {rates[id(p)] for p in denoiser.parameters.values()} == {0.5e-3}
    prodigy = TrainingSettings(optimizer="prodigy", text_learning_rate=0.5)
    with pytest.raises(SettingsError, match="text_learning_rate"):
        make_optimizer(denoiser.parameters, prodigy)


def test_a_face_mask_belongs_to_all_frames_and_channels_of_its_own_row():
    target = torch.zeros(3, 5, 1, 4, 4)
    prediction = torch.randn(3, 5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    faces = [(0.0, 0.0, 32.0, 16.0), None, (16.0, 16.0, 32.0, 32.0)]
    mask = face_mask(faces, Size(32, 32), (4, 4), 3.0)
    found = row_losses(prediction, target, mask)
    assert torch.allclose(found, row_losses(prediction[:, :, 0], target[:, :, 0], mask))
    rows = [slice(n, n + 1) for n in range(3)]
    singly = [row_losses(prediction[row], target[row], mask[row]) for row in rows]
    assert torch.allclose(found, torch.cat(singly))


def test_a_rate_is_a_share_of_its_peak_and_the_settings_reach_the_optimizer():
    settings = TrainingSettings(learning_rate=1e-3, betas=(0.8, 0.95), weight_decay=0.3)
    optimizer = make_optimizer(TinyDenoiser().parameters, settings)
    for _ in range(2):
        set_rate(optimizer, 0.5)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5e-3]
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.8, 0.95), 0.3)
