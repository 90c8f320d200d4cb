"""Schedulers (samplers): by name, as recorded, and whether their noise is a row's own."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

from ..errors import CuratorError
from ..json_text import parse

MODEL = "model"
"""The scheduler that the model comes with."""

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""Names for the command line and project files: diffusers' class and what it is configured with."""


class SchedulerError(CuratorError):
    """A scheduler is unknown or does not fit the model."""


def make(choice: str | Mapping[str, Any], own: Any) -> Any:
    """Make a scheduler for a model.

    Args:
        choice: A key of :data:`SCHEDULERS`, the name of a diffusers class, ``model``, or a
            recorded mapping with ``class`` and ``config``.
        own: The scheduler that the model comes with; it lends its noise schedule.

    Raises:
        SchedulerError: The name is unknown, or one of the two is for flow matching and the other
            is not.
    """
    import diffusers
    from diffusers import SchedulerMixin

    if choice == MODEL:
        return own
    if isinstance(choice, Mapping):
        name, config = str(choice["class"]), dict(choice["config"])
    else:
        name, config = SCHEDULERS.get(choice, (choice, {}))
        config = {**own.config, **config}
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        known = ", ".join([MODEL, *SCHEDULERS])
        raise SchedulerError(f"Unknown scheduler '{name}'. Use one of: {known}.")
    scheduler = kind.from_config(config)  # type: ignore[attr-defined]
    if _is_flow(scheduler) != _is_flow(own):
        raise SchedulerError(
            f"{name} does not fit this model, which comes with {type(own).__name__}: one is for "
            f"flow matching, the other is not. Use scheduler = '{MODEL}'."
        )
    return scheduler


def describe(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's class and whole configuration, ready for JSON; :func:`make` reads it.

    Infinite numbers, which JSON does not know, are left out: they are the class's own defaults
    (DPM-Solver's ``lambda_min_clipped``), which it takes for what is not said.
    """
    config = {
        k: v
        for k, v in scheduler.config.items()
        if not k.startswith("_") and not (isinstance(v, float) and math.isinf(v))
    }
    text = json.dumps(config, default=lambda value: value.tolist())
    return {"class": type(scheduler).__name__, "config": parse(text)}


def has_rows_of_their_own(scheduler: Any, steps: int, with_generators: bool) -> bool:
    """Find out by trying whether a batch's rows stay independent of each other under a scheduler.

    Some schedulers draw noise on the way. Most take it from the generators that they are given,
    one a row; a few take it from the process's global generator, so that a row depends on its
    neighbours and on what was drawn before. Two rows are stepped through in both orders: their
    values must be the same, and the global generator untouched.

    Args:
        scheduler: Any scheduler of diffusers.
        steps: How many steps it will make.
        with_generators: Whether the pipeline hands the scheduler the rows' generators.
    """
    import torch

    accepts = "generator" in inspect.signature(scheduler.step).parameters

    def walk(order: tuple[int, int]) -> torch.Tensor:
        trial = type(scheduler).from_config(scheduler.config)
        flow = trial.config.get("use_dynamic_shifting", False)
        trial.set_timesteps(steps, **({"mu": 1.0} if flow else {}))
        generators = [torch.Generator().manual_seed(seed) for seed in order]
        extra = {"generator": generators} if with_generators and accepts else {}
        rows = [torch.randn((1, 4, 8, 8), generator=generator) for generator in generators]
        sample = torch.cat(rows) * float(getattr(trial, "init_noise_sigma", 1.0))
        for time in trial.timesteps:
            scaled = sample
            if hasattr(trial, "scale_model_input"):
                scaled = trial.scale_model_input(sample, time)
            sample = trial.step(torch.tanh(scaled), time, sample, return_dict=False, **extra)[0]
        return sample

    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            one, other = walk((1, 2)), walk((2, 1))
        except Exception:  # a scheduler that can't be tried like this is run one row at a time
            return False
        untouched = torch.equal(before, torch.get_rng_state())
    return untouched and torch.equal(one, other.flip(0))


def _is_flow(scheduler: Any) -> bool:
    if "Flow" in type(scheduler).__name__:
        return True
    return scheduler.config.get("prediction_type") == "flow_prediction"
