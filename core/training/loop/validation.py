"""The validation loss, and what its course says: the best epoch, convergence, the plateau.

Every held-out image is seen at the same timesteps with the same noise every time. Noise follows
from the image's content and the timestep's number alone, so losses of different epochs, settings
and runs compare as long as images, crops and model are the same. No weights of the training
objective enter: it is the plain mean squared error of the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import polars as pl
import torch
from torch import Tensor

from ..data.cache import Item, image_sizes
from ..data.order import draw
from ..denoisers.protocol import Denoiser, TextEmbeddings
from ..settings import TrainingSettings
from .objective import row_losses
from .processes import Processes
from .timesteps import Timesteps


@torch.no_grad()
def validation_loss(
    denoiser: Denoiser,
    items: Sequence[Item],
    latents: Callable[[Sequence[Item]], Tensor],
    text: Callable[[Sequence[str], Sequence[Item]], TextEmbeddings],
    *,
    timesteps: int,
    batch_size: int,
    device: torch.device,
    processes: Processes | None = None,
    course: Timesteps | None = None,
    even: bool = False,
) -> float:
    """Return the mean loss over images and timesteps; the model must be in evaluation mode.

    Args:
        denoiser: The model.
        items: Held-out images with their crops.
        latents: Gives the latents of items of one size.
        text: Gives the embeddings of captions, each with its item.
        timesteps: How many fixed timesteps.
        batch_size: Rows in a forward pass.
        device: Where the model is.
        processes: Who shares the work; all of them get the loss of the whole.
        course: Which timesteps; the model's own unless given.
        even: Whether all processes compute equally often, as a divided model needs it.
    """
    shared, course = processes or Processes(), course or Timesteps()
    rows = [(item, k) for item in items for k in range(timesteps)]
    rows.sort(key=lambda row: (row[0][1].size, row[0][0].hash, row[1]))
    total = torch.zeros((), dtype=torch.float64)
    batches = _batches(rows, batch_size)
    own = batches[shared.rank :: shared.count]
    counted = len(own)
    if even:
        own += batches[:1] * (-(-len(batches) // shared.count) - counted)
    for place, batch in enumerate(own):
        clean = latents([item for item, _ in batch])
        noise = torch.stack([_noise(item[0].hash, k, clean.shape[1:]) for item, k in batch])
        clean, noise = clean.to(device), noise.to(device)
        steps = course.fixed(denoiser, batch[0][0][1].size, timesteps)
        times = steps[[k for _, k in batch]].to(device)
        shown = [item for item, _ in batch]
        embeddings = text([item[0].caption for item in shown], shown).to(device, None)
        noisy = denoiser.add_noise(clean, noise, times)
        predicted = denoiser.predict(noisy, times, embeddings, image_sizes([i for i, _ in batch]))
        losses = row_losses(predicted, denoiser.target(clean, noise, times))
        if place < counted:
            total += losses.double().sum().cpu()
    if shared.count > 1:
        total = shared.add(total.to(device))
    return float(total / len(rows))


def _batches(rows: Sequence[tuple[Item, int]], most: int) -> list[list[tuple[Item, int]]]:
    """Divide sorted rows into batches of one image size each."""
    batches, start = [], 0
    while start < len(rows):
        size = rows[start][0][1].size
        batches.append([r for r in rows[start : start + most] if r[0][1].size == size])
        start += len(batches[-1])
    return batches


def _noise(digest: str, k: int, shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(draw("validation noise", digest, k))
    return torch.randn(tuple(shape), generator=generator)


@dataclass(frozen=True)
class Convergence:
    """When a run was as good as done.

    Attributes:
        epoch: The epoch of convergence.
        plateau: The loss that the run settled at.
        start: The loss before training.
        settled: Whether enough epochs follow to call it a plateau; if not, the loss was still
            falling when the run ended and the epoch is that of a run of this length.
    """

    epoch: int
    plateau: float
    start: float
    settled: bool


def convergence(
    epochs: Sequence[int],
    losses: Sequence[float],
    *,
    tolerance: float = 0.05,
    settle: float = 0.2,
) -> Convergence | None:
    """Name the epoch of convergence.

    The course is smoothed by a median over three validations, the loss before training aside. The
    plateau is its lowest point. The epoch of convergence is the first at which the smoothed loss
    has made all but ``tolerance`` of the way from the start to the plateau.

    Args:
        epochs: Validated epochs in order; the first is 0, before training.
        losses: Their validation losses.
        tolerance: Share of the improvement that may be missing.
        settle: Share of the run that must lie behind that epoch for it to count as settled.

    Returns:
        What was found, or ``None`` if the loss never fell below its start.
    """
    if len(epochs) < 2:
        return None
    after = list(losses[1:])
    smooth = [median(after[max(0, i - 1) : i + 2]) for i in range(len(after))]
    start, plateau = losses[0], min(smooth)
    if not plateau < start:
        return None
    limit = plateau + tolerance * (start - plateau)
    epoch = next(e for e, loss in zip(epochs[1:], smooth, strict=True) if loss <= limit)
    return Convergence(epoch, plateau, start, epochs[-1] - epoch >= settle * epochs[-1])


def course_of(history: pl.DataFrame, settings: TrainingSettings) -> Convergence | None:
    """Name the epoch of convergence of a run's history; see :func:`convergence`."""
    rows = history.drop_nulls("validation_loss")
    return convergence(
        rows["epoch"].to_list(),
        rows["validation_loss"].to_list(),
        tolerance=settings.plateau_tolerance,
    )


@dataclass
class Patience:
    """Says when a loss has stopped falling.

    Attributes:
        limit: Validations without improvement that end the run; ``None`` never ends it.
        min_improvement: Share of the reference by which a loss must be lower to count.
        reference: The last loss that counted.
        waited: Validations since.
    """

    limit: int | None
    min_improvement: float
    reference: float = float("inf")
    waited: int = 0

    def is_over(self, loss: float) -> bool:
        """Take in a validation loss; return whether patience has run out."""
        if loss < self.reference - self.min_improvement * abs(self.reference) or (
            self.reference == float("inf")
        ):
            self.reference, self.waited = loss, 0
        else:
            self.waited += 1
        return self.limit is not None and self.waited >= self.limit
