"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The average of some parameters over the steps, in float32 on their device.

    Args:
        parameters: What is averaged; the average starts from their present values.
        decay: What is kept of the average in a step. A young average forgets faster: the decay is
            ``min(decay, (1 + step) / (10 + step))``.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.values: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step number ``step`` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter.detach().float(), 1 - decay)


@contextmanager
def in_place(
    parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]
) -> Iterator[None]:
    """Put values, such as an average, in the place of parameters for a while."""
    trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    copy_into(parameters, values)
    try:
        yield
    finally:
        copy_into(parameters, trained)


@torch.no_grad()
def copy_into(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Copy values into parameters of the same names and shapes."""
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
