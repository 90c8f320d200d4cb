"""Adafactor and the schedule-free AdamW: what is trained, and what counts."""

from __future__ import annotations

import pytest
import torch

from character_curator.training import Callbacks
from character_curator.training.loop.optimizers import make_optimizer, set_rate, smoothed
from character_curator.training.loop.state import load_tensors
from tests.support.tiny_denoiser import TinyDenoiser
from tests.support.training_runs import SETTINGS, assert_same, run, weights

FREE = SETTINGS.replace(
    optimizer="schedulefree", schedule="constant", ema_decay=None, learning_rate=1e-2
)


def averaged(path):
    """Return what counts of a state, by the formula: y lies a tenth of the way from x to z."""
    tensors, facts = load_tensors(path)
    names = [name for name in tensors if name.startswith("parameter.")]
    (group,) = facts["optimizer"]["groups"]
    beta = group["betas"][0]
    found = {}
    for index, name in enumerate(names_in_order(names)):
        y, z = tensors[name].double(), tensors[f"optimizer.state.{index}.z"].double()
        found[name.removeprefix("parameter.")] = (y - (1 - beta) * z) / beta
    return found


def names_in_order(names):
    order = [f"parameter.{name}" for name in TinyDenoiser().parameters]
    assert sorted(order) == sorted(names)
    return order


def test_what_is_kept_is_the_average_and_what_goes_on_is_not(examples, tmp_path):
    pytest.importorskip("schedulefree")
    result, denoiser = run(examples, tmp_path, FREE)
    kept, expected = weights(result.last), averaged(tmp_path / "state.safetensors")
    state, _ = load_tensors(tmp_path / "state.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(kept[name].double(), value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(kept[name], state[f"parameter.{name}"]) for name in expected)
    best = weights(result.best)
    assert all(torch.equal(best[name], p) for name, p in denoiser.parameters.items())


def test_validating_sampling_and_keeping_do_not_change_the_course(examples, tmp_path):
    pytest.importorskip("schedulefree")
    whole, _ = run(examples, tmp_path / "a", FREE.replace(validate_every=1))
    seen = []
    watched = FREE.replace(validate_every=1, sample_every=1, checkpoint_every=1)
    denoiser = TinyDenoiser()

    def look(epoch):
        assert not denoiser.network.training
        seen.append({name: p.detach().clone() for name, p in denoiser.parameters.items()})

    other, _ = run(examples, tmp_path / "b", watched, denoiser, callbacks=Callbacks(on_sample=look))
    assert_same(whole.last, other.last)
    assert_same(tmp_path / "a" / "state.safetensors", tmp_path / "b" / "state.safetensors")
    assert len(seen) == 5
    last = weights(other.last)
    assert all(torch.equal(last[name], value) for name, value in seen[-1].items())
    epoch = weights(tmp_path / "b" / "epoch-0004.safetensors")
    assert all(torch.equal(last[name], value) for name, value in epoch.items())


class _Breaks(TinyDenoiser):
    """Predicts NaN from its tenth training batch on."""

    healthy = 9

    def predict(self, *args):
        found = super().predict(*args)
        if torch.is_grad_enabled():
            self.healthy -= 1
        return found if self.healthy >= 0 else found * float("nan")


def test_what_has_diverged_ends_with_the_average_of_the_last_good_state(examples, tmp_path):
    pytest.importorskip("schedulefree")
    settings = FREE.replace(validation_share=0.0, save_every=None)
    result, _ = run(examples, tmp_path, settings, _Breaks())
    assert result.stopped == "diverged"
    expected = averaged(tmp_path / "state.safetensors")
    for name, value in weights(result.last).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)


def test_the_schedule_free_way_is_its_librarys(tmp_path):
    """Step by step beside the library's own warm-up, and its own evaluation mode."""
    library = pytest.importorskip("schedulefree")
    settings = FREE.replace(weight_decay=0.1)
    torch.manual_seed(0)
    ours = {"a": torch.nn.Parameter(torch.randn(3, 4))}
    theirs = torch.nn.Parameter(ours["a"].detach().clone())
    optimizer = make_optimizer(ours, settings)
    reference = library.AdamWScheduleFree(
        [theirs], lr=1e-2, betas=settings.betas, weight_decay=0.1, warmup_steps=4
    )
    reference.train()
    for step in range(9):
        gradient = torch.randn(3, 4)
        ours["a"].grad, theirs.grad = gradient.clone(), gradient.clone()
        set_rate(optimizer, min(1.0, (step + 1) / 4))
        optimizer.step()
        reference.step()
        before = ours["a"].detach().clone()
        found = smoothed(optimizer, ours)
        assert torch.equal(ours["a"], before)
    assert torch.equal(ours["a"], theirs)
    reference.eval()
    assert torch.equal(found["a"], theirs)


def test_adafactor_takes_the_rate_as_it_is_and_keeps_hardly_any_state():
    """The first step of a matrix that begins at zero is of the rate's size, as AdamW's is."""
    settings = SETTINGS.replace(optimizer="adafactor", learning_rate=1e-3, weight_decay=0.0)
    parameter = torch.nn.Parameter(torch.zeros(64, 32))
    optimizer = make_optimizer({"a": parameter}, settings)
    parameter.grad = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert float(parameter.detach().square().mean().sqrt()) == pytest.approx(1e-3, rel=0.05)
    held = sum(v.numel() for v in optimizer.state[parameter].values() if torch.is_tensor(v))
    assert held <= 64 + 32 + 1
    assert smoothed(optimizer, {"a": parameter}) is None
