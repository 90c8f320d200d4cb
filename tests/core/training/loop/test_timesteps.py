"""Timesteps: their distribution, and what a shift makes of it, against diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch

from character_curator.training import TrainingSettings
from character_curator.training.data.buckets import Size
from character_curator.training.loop.timesteps import Timesteps
from character_curator.training.settings import SettingsError

SIZE = Size(1024, 1024)


class Flow:
    """Draws as flows do."""

    prediction = "flow"
    device = torch.device("cpu")

    def sample_timesteps(self, n, generator):
        return 1000 * torch.randn(n, generator=generator).sigmoid()

    def fixed_timesteps(self, k):
        return torch.linspace(1, 999, k)


class Steps(Flow):
    """Draws as UNets do."""

    prediction = "epsilon"

    def sample_timesteps(self, n, generator):
        return torch.randint(1000, (n,), generator=generator)


def drawn(course, denoiser=None, size=SIZE, count=4000):
    generator = torch.Generator().manual_seed(0)
    return torch.cat([course.draw(denoiser or Flow(), size, generator) for _ in range(count)])


def test_the_default_draws_the_same_numbers_as_ever():
    for denoiser in (Flow(), Steps()):
        ever = torch.Generator().manual_seed(0)
        found = drawn(Timesteps.of(TrainingSettings()), denoiser, count=3)
        expected = [denoiser.sample_timesteps(1, ever) for _ in range(3)]
        assert torch.equal(found, torch.cat(expected))
        assert found.dtype == expected[0].dtype
        assert torch.equal(Timesteps().fixed(denoiser, SIZE, 4), denoiser.fixed_timesteps(4))


COURSES = [
    Timesteps("uniform"),
    Timesteps("logit-normal"),
    Timesteps("logit-normal", shift=2.5),
    Timesteps("logit-normal", spread=1.5, resolution="ideogram4"),
    Timesteps("uniform", resolution="flux"),
]


@pytest.mark.parametrize("course", COURSES, ids=str)
def test_validation_sees_the_middles_of_what_training_draws(course):
    found = drawn(course).sort().values
    fixed = course.fixed(Flow(), SIZE, 8)
    assert torch.equal(fixed, fixed.sort().values)
    at = ((torch.arange(8) + 0.5) / 8 * len(found)).long()
    assert (found[at] - fixed).abs().max() < 25


def test_a_shift_is_that_of_diffusers_scheduler():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.2)
    plain = FlowMatchEulerDiscreteScheduler()
    shares = Timesteps("uniform").fixed(Flow(), SIZE, 9)
    found = Timesteps("uniform", shift=2.2).fixed(Flow(), SIZE, 9)
    expected = [scheduler.timesteps[(plain.timesteps - share).abs().argmin()] for share in shares]
    assert (found - torch.stack(expected)).abs().max() < 2


@pytest.mark.parametrize("size", [Size(256, 256), Size(512, 768), SIZE])
@pytest.mark.parametrize(
    ("name", "most", "pixels"), [("flux", 1.15, 4096), ("qwen", 0.9, 8192), ("krea2", 1.15, 6400)]
)
def test_a_shift_by_resolution_is_that_of_the_pipelines(name, most, pixels, size):
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    tokens = size.width * size.height // 256
    mu = calculate_shift(tokens, 256, pixels, 0.5, most)
    found = Timesteps("uniform", resolution=name).fixed(Flow(), size, 5)
    shares = Timesteps("uniform").fixed(Flow(), size, 5) / 1000
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    torch.testing.assert_close(found, 1000 * scheduler.time_shift(mu, 1.0, shares))


def test_larger_images_want_more_noise():
    course = Timesteps("logit-normal", resolution="flux")
    small, large = (course.fixed(Flow(), Size(side, side), 4) for side in (512, 1024))
    assert (large > small).all()
    middle = course.fixed(Flow(), SIZE, 1)[0] / 1000
    assert float(middle / (1 - middle)) == pytest.approx(math.exp(1.15), rel=1e-4)


@pytest.mark.parametrize("course", [COURSES[1], COURSES[2], COURSES[4], Timesteps(shift=2.0)])
def test_a_model_that_predicts_no_flow_refuses_a_flows_timesteps(course):
    with pytest.raises(SettingsError, match="epsilon"):
        course.check("epsilon")
    course.check("flow")
    Timesteps("uniform").check("v_prediction")
