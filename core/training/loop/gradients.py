"""The gradient of one optimizer step, however it is divided into batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.cache import image_sizes
from ..data.order import Batch, draw
from ..data.prepare import NO_CAPTION, TrainingData
from ..denoisers.protocol import Denoiser
from ..settings import TrainingSettings
from .objective import draw_noise, face_mask, huber_deltas, masked, row_losses, row_weights
from .processes import Processes
from .timesteps import Timesteps


def add_gradients(
    denoiser: Denoiser,
    data: TrainingData,
    batches: Sequence[Batch],
    settings: TrainingSettings,
    device: torch.device,
    moment: tuple[int, int],
    processes: Processes | None = None,
) -> float:
    """Add the gradient of a step's loss to the parameters, one batch after the other.

    The loss is the mean over all rows of all batches. Every row draws its noise, timestep and
    dropped caption from a generator of its own, so the batches of a step add up to the gradient of
    one large batch. (Dropout inside the adapters is drawn for a batch as a whole.)

    Args:
        denoiser: The model, in training mode.
        data: What the batches point into.
        batches: Of this step.
        settings: The objective.
        device: Where the model is.
        moment: Epoch, and number of the step in it: with the seed, all that randomness depends on.
        processes: Who shares the step; this process adds the gradient of its own rows.

    Returns:
        The loss (this process's part of it); not finite if the step must not be taken.
    """
    rows = sum(len(batch) for batch in batches)
    total = torch.zeros((), device=device)
    shared = processes or Processes()
    share = shared.share(batches)
    counted = len(share)
    if settings.shard_base:
        # All processes compute a divided model equally often; what is too much counts nothing.
        share += [(0, batches[0][:1])] * (shared.passes(batches) - counted)
    for place, (first, batch) in enumerate(share):
        torch.manual_seed(draw("dropout", settings.seed, *moment, first))
        sources = [
            torch.Generator().manual_seed(draw("row", settings.seed, *moment, first + i))
            for i in range(len(batch))
        ]
        loss = _weighted_losses(denoiser, data, batch, settings, device, sources).sum() / rows
        if place >= counted:
            loss = loss * 0.0
        loss.backward()
        total += loss.detach()
    return float(total)


def _weighted_losses(
    denoiser: Denoiser,
    data: TrainingData,
    batch: Batch,
    settings: TrainingSettings,
    device: torch.device,
    sources: Sequence[torch.Generator],
) -> Tensor:
    """Return what each row of a batch adds to the loss."""
    items = [data.items[i] for i in batch]
    size = items[0][1].size
    latents = data.latents(items)
    row = (1, *latents.shape[1:])
    course = Timesteps.of(settings)
    # The order of the draws is part of what a seed means.
    timesteps = torch.cat([course.draw(denoiser, size, source) for source in sources])
    noise = torch.cat([draw_noise(row, settings.noise_offset, source) for source in sources])
    dropped = [
        settings.caption_dropout > 0
        and float(torch.rand((), generator=source)) < settings.caption_dropout
        for source in sources
    ]
    captions = [
        NO_CAPTION if drop else example.caption
        for drop, (example, _) in zip(dropped, items, strict=True)
    ]
    latents, noise, timesteps = latents.to(device), noise.to(device), timesteps.to(device)
    mask = None
    if settings.face_weight != 1:
        faces = [crop.place(example.face) if example.face else None for example, crop in items]
        mask = face_mask(faces, size, (row[-2], row[-1]), settings.face_weight)
    shown = data.masks(items, (row[-2], row[-1]))
    if shown is not None:
        mask = masked(mask, shown, settings.unmasked_weight)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    with autocast:
        text = data.text(captions, items).to(device, None)
        predicted = denoiser.predict(
            denoiser.add_noise(latents, noise, timesteps), timesteps, text, image_sizes(items)
        )
    snr = denoiser.snr(timesteps)
    delta = None
    if settings.loss != "mse":
        delta = huber_deltas(settings.huber_schedule, settings.huber_delta, timesteps, snr)
    target = denoiser.target(latents, noise, timesteps)
    losses = row_losses(predicted, target, mask, loss=settings.loss, delta=delta)
    weights = row_weights(
        [example.prior for example, _ in items],
        settings.prior_weight,
        snr,
        settings.min_snr_gamma,
        denoiser.prediction,
    )
    return losses * weights.to(losses.device)
