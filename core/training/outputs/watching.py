"""Who looks on while a LoRA trains: sample images and the plot of the losses."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ...lora.adapters import Adapters
from ..data.buckets import Size
from ..data.examples import Example
from ..denoisers.protocol import SamplingDenoiser
from ..job import LoraJob
from ..loop.modes import training_modes
from ..result import Callbacks, EpochReport, TrainingResult, history_table
from ..settings import TrainingSettings
from .plot import write_plot
from .samples import FOLDER, default_prompts, write_samples, write_strip

logger = logging.getLogger(__name__)

PLOT_INTERVAL = 5.0
"""Seconds from one drawing of the plot to the next, at least."""


class Sampler:
    """Makes the sample images of a training.

    Args:
        job: What is sampled, and where it goes.
        settings: Of the training.
        denoiser: The model.
        adapters: On it.
        examples: Lend their captions where there are no prompts.
    """

    def __init__(
        self,
        job: LoraJob,
        settings: TrainingSettings,
        denoiser: SamplingDenoiser,
        adapters: Adapters,
        examples: Sequence[Example],
    ) -> None:
        self._job, self._denoiser, self._adapters = job, denoiser, adapters
        self._settings = job.samples
        if job.samples is not None and not job.samples.prompts:
            self._settings = replace(job.samples, prompts=default_prompts(examples))
        sizes: list[Size] = sorted(example.crop(settings).size for example in examples)
        self._size = max(sizes, key=lambda size: (sizes.count(size), size))

    def forget(self) -> None:
        """Delete the samples of an earlier run."""
        shutil.rmtree(self._job.folder / FOLDER, ignore_errors=True)

    def callbacks(self) -> Callbacks:
        """Return who samples while it trains."""
        return Callbacks(on_sample=None if self._settings is None else self._add)

    def finish(self, epoch: int) -> np.ndarray | None:
        """Sample with the weights as they are now, the best ones.

        Args:
            epoch: Of these weights.

        Returns:
            uint8 RGB array of shape ``(prompts, height, width, 3)``; ``None`` without prompts.
        """
        return None if self._settings is None else self._add(epoch)

    def _add(self, epoch: int) -> np.ndarray:
        settings = self._settings
        assert settings is not None  # noqa: S101  # nobody calls otherwise
        with training_modes(self._adapters.modules.values(), False):
            images = self._denoiser.sample(self._adapters, settings, self._size)
        with _images_may_fail():
            write_samples(self._job.folder, epoch, images)
            write_strip(
                self._job.folder,
                self._job.beside(".samples.png"),
                settings.prompts,
                title=self._job.output.stem,
            )
        return images


class Plotter:
    """Draws the losses while it trains, and in the end.

    Args:
        job: Where the plot goes.
    """

    def __init__(self, job: LoraJob) -> None:
        self._job = job
        self._drawn = 0.0

    def callbacks(self) -> Callbacks:
        """Return who draws while it trains."""
        return Callbacks(on_history=self._draw)

    def finish(self, result: TrainingResult) -> None:
        """Draw the whole course, with the best epoch and that of convergence."""
        with _images_may_fail():
            write_plot(
                result.history,
                self._job.beside(".loss.svg"),
                self._job.beside(".loss.png"),
                title=self._job.output.stem,
                best_epoch=result.best_epoch,
                convergence_epoch=result.convergence_epoch,
            )

    def _draw(self, reports: Sequence[EpochReport]) -> None:
        if time.monotonic() - self._drawn < PLOT_INTERVAL:
            return
        with _images_may_fail():
            write_plot(
                history_table(reports),
                self._job.beside(".loss.svg"),
                self._job.beside(".loss.png"),
                title=self._job.output.stem,
            )
        self._drawn = time.monotonic()


@contextmanager
def _images_may_fail() -> Iterator[None]:
    """Go on without a plot or a sheet: where the disk is full, the state is what matters."""
    try:
        yield
    except OSError as error:
        logger.warning("A plot or samples could not be written: %s", error)
