"""Which timesteps a training sees: a distribution, and how far it is moved towards noise.

Of a flow a timestep is 1000 times the share of noise. A shift by ``s`` takes the share ``t`` to
``s t / (1 + (s - 1) t)`` (arXiv 2403.03206, section 5.3.2): with more pixels, the same share of
noise hides less of the image, so that larger images want more of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..settings import SettingsError, TrainingSettings

if TYPE_CHECKING:
    from ..data.buckets import Size
    from ..denoisers.protocol import Denoiser, Prediction

_LAST = 1000.0
_CELL = 256
"""Pixels of a token, whatever the autoencoder: 16 by 16."""


def _line(x1: float, y1: float, x2: float, y2: float) -> Callable[[float], float]:
    return lambda pixels: y1 + (y2 - y1) * (pixels / _CELL - x1) / (x2 - x1)


_BY_RESOLUTION: Mapping[str, Callable[[float], float]] = {
    "flux": _line(256, 0.5, 4096, 1.15),  # diffusers, pipeline_flux.calculate_shift
    "qwen": _line(256, 0.5, 8192, 0.9),  # the scheduler's configuration of Qwen-Image
    "krea2": _line(256, 0.5, 6400, 1.15),  # krea-ai/krea-2, sampling at 256 to 1280 pixels
    "ideogram4": lambda pixels: 0.5 * math.log(pixels / 512**2),  # musubi-tuner, timesteps.py
}
"""Logarithm of the shift, by the number of pixels."""


@dataclass(frozen=True)
class Timesteps:
    """A distribution of timesteps.

    Attributes:
        sampling: ``model``: the denoiser's own. ``uniform``, ``logit-normal``.
        shift: How far it is moved.
        spread: Standard deviation of the logit-normal distribution.
        resolution: A name of a shift by resolution, beside ``shift``; or ``none``.
    """

    sampling: str = "model"
    shift: float = 1.0
    spread: float = 1.0
    resolution: str = "none"

    @staticmethod
    def of(settings: TrainingSettings) -> Timesteps:
        """Return what settings say."""
        return Timesteps(
            settings.timestep_sampling,
            settings.timestep_shift,
            settings.timestep_spread,
            settings.resolution_shift,
        )

    @property
    def _is_plain(self) -> bool:
        return self.shift == 1 and self.resolution == "none"

    def check(self, prediction: Prediction) -> None:
        """Refuse what only a flow can be trained with.

        Raises:
            SettingsError: The model predicts noise or velocity on discrete timesteps.
        """
        if prediction == "flow" or (self._is_plain and self.sampling in ("model", "uniform")):
            return
        raise SettingsError(
            'timestep_sampling = "logit-normal", timestep_shift and resolution_shift are for '
            f"models that predict a flow; this one predicts {prediction}, on timesteps that are "
            "drawn evenly. Leave them at their defaults."
        )

    def draw(self, denoiser: Denoiser, size: Size, generator: torch.Generator) -> Tensor:
        """Draw one timestep.

        Args:
            denoiser: Draws its own where nothing else is wanted.
            size: Of the images, in pixels.
            generator: Source of the numbers.
        """
        if self.sampling == "model" or denoiser.prediction != "flow":
            return self._moved(denoiser.sample_timesteps(1, generator), size)
        if self.sampling == "uniform":
            share = torch.rand(1, generator=generator)
        else:
            share = (self.spread * torch.randn(1, generator=generator)).sigmoid()
        return self._moved((_LAST * share).to(denoiser.device), size)

    def fixed(self, denoiser: Denoiser, size: Size, k: int) -> Tensor:
        """Return the ``k`` mid-quantiles of the distribution, ascending."""
        if self.sampling == "model" or denoiser.prediction != "flow":
            return self._moved(denoiser.fixed_timesteps(k), size)
        share = (torch.arange(k, dtype=torch.float64) + 0.5) / k
        if self.sampling == "logit-normal":
            share = (self.spread * torch.special.ndtri(share)).sigmoid()
        return self._moved((_LAST * share).float().to(denoiser.device), size)

    def _moved(self, timesteps: Tensor, size: Size) -> Tensor:
        if self._is_plain:
            return timesteps
        shift = self.shift
        if self.resolution != "none":
            shift *= math.exp(_BY_RESOLUTION[self.resolution](size.width * size.height))
        share = timesteps / _LAST
        return _LAST * shift * share / (1 + (shift - 1) * share)
