"""One training run: its clock, its learning rate, its averaged weights and its checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .muon import Muon


@dataclass(frozen=True)
class Budget:
    """How long to train: so many seconds of training, or so many steps, whichever is first."""

    seconds: float = math.inf
    steps: float = math.inf

    def share(self, elapsed: float, step: int) -> float:
        """Say how much of the budget is used, from 0 to 1."""
        return min(1.0, max(elapsed / self.seconds, step / self.steps))


def lr_factor(share: float, step: int, *, warm_up: int = 40, floor: float = 0.02) -> float:
    """Warm up over some steps, then fall as a cosine over the budget.

    Args:
        share: Used share of the budget, 0 to 1.
        step: Number of the step.
        warm_up: Steps of the linear rise.
        floor: What is left at the end.

    Returns:
        Factor on the peak learning rate.
    """
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    return cosine * min(1.0, (step + 1) / warm_up)


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Flush denormal numbers: without it a trained network's arithmetic slows down on a CPU.

    It is a setting of the whole process, so it is taken back afterwards.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Averaged:
    """Exponential moving average of the floating-point state of some modules."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        """Start from the modules' present weights.

        Args:
            modules: Modules by name.
            decay: Of the average; a young average forgets faster.
        """
        self._decay = decay
        self._live = self._tensors(modules)
        self._mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @staticmethod
    def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        return {
            f"{prefix}.{name}": tensor
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
            if tensor.is_floating_point()
        }

    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._mean.values()), list(self._live.values()), 1 - decay)

    def copy_to(self, modules: Mapping[str, nn.Module]) -> None:
        """Write the average into modules of the same shape."""
        with torch.no_grad():
            for name, tensor in self._tensors(modules).items():
                tensor.copy_(self._mean[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return self._mean

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from saved averages."""
        for name, tensor in state.items():
            self._mean[name].copy_(tensor)


class Session:
    """A resumable run: ``step`` and ``elapsed`` survive a kill together with all weights.

    Randomness of a step must come from ``generator``, which depends only on the seed and the step's
    number; then a run that was interrupted ends in the same state as one that was not.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: Muon,
        *,
        checkpoint: Path,
        budget: Budget,
        seed: int,
        ema_decay: float = 0.998,
        save_every: float = 120.0,
        resume: bool = True,
    ) -> None:
        """Set up a run and continue from its checkpoint where there is one.

        Args:
            modules: Modules by name; their weights and averages are kept.
            optimizer: Of those modules.
            checkpoint: File of the run's state.
            budget: How long to train in all, runs before an interruption included.
            seed: Of the run.
            ema_decay: Of the averaged weights.
            save_every: Seconds between checkpoints.
            resume: Continue from the checkpoint; otherwise it is overwritten in time.
        """
        self.modules, self.optimizer = modules, optimizer
        self.average = Averaged(modules, ema_decay)
        self.step, self.elapsed, self._stepping = 0, 0.0, False
        self._checkpoint, self._budget, self._seed = checkpoint, budget, seed
        self._save_every, self._saved_at = save_every, 0.0
        if resume and checkpoint.exists():
            self._load()
        self._tick = time.monotonic()

    def running(self) -> bool:
        """Say whether another step is due, and set its learning rate."""
        share = self.share
        if share >= 1:
            return False
        self.optimizer.scale_lr(lr_factor(share, self.step))
        return True

    @property
    def share(self) -> float:
        """Used share of the budget, 0 to 1."""
        return self._budget.share(self.elapsed, self.step)

    def generator(self) -> torch.Generator:
        """Return the random numbers of the present step."""
        return torch.Generator().manual_seed((self._seed << 32) + self.step)

    def __enter__(self) -> Session:
        """Begin: what is reached when the block is left, for whatever reason, is kept."""
        return self

    def __exit__(self, *_: object) -> None:
        """Save the state, unless a step was cut in half."""
        if not self._stepping:
            self.save()

    def apply(self, loss: Tensor) -> None:
        """Take a step down the gradient of a loss, and save the state when it is time to."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._stepping = True
        self.optimizer.step()
        self.average.update(self.step)
        self.step += 1
        self._stepping = False
        now = time.monotonic()
        self.elapsed += now - self._tick
        self._tick = now
        if self.elapsed - self._saved_at >= self._save_every:
            self.save()

    def save(self) -> None:
        """Write the state beside the checkpoint and put it in its place."""
        state: dict[str, Any] = {
            "step": self.step,
            "elapsed": self.elapsed,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self._checkpoint.with_name(self._checkpoint.name + ".partial")
        torch.save(state, partial)
        partial.replace(self._checkpoint)
        self._saved_at = self.elapsed

    def _load(self) -> None:
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self._saved_at = self.elapsed
