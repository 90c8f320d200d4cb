"""The loss: how far a prediction is from its target, and what each image counts.

Whatever weights there are belong to rows: signal-to-noise weights of the row's own timestep, the
prior-preservation weight of the row's own image, the face mask of the row's own face. A batch may
therefore mix subject and prior images in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...counts import how_many
from ..data.buckets import Box, Size
from ..denoisers.protocol import Prediction
from ..settings import HuberSchedule, LossName, SettingsError

_TIMESTEPS = 1000
"""Where the timesteps of every family end."""


def min_snr_weights(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return the loss weights of min-SNR gamma.

    Hang et al., arXiv 2303.09556: the loss on x0 is weighted by ``min(snr, gamma)``; that is
    ``min(snr, gamma) / snr`` on epsilon and ``min(snr, gamma) / (snr + 1)`` on v.

    Args:
        snr: Signal-to-noise ratio of each row, 0 or more.
        gamma: The cap, above 0.
        prediction: What the model predicts; flow matching has no such weights.

    Returns:
        A weight a row, at most 1. A row without signal (zero terminal SNR) weighs 1 on epsilon,
        which is the limit, and 0 on v.

    Raises:
        ValueError: The model predicts a flow.
    """
    snr = snr.float()
    capped = snr.clamp(max=gamma)
    if prediction == "epsilon":
        return torch.where(snr > 0, capped / snr.clamp(min=1e-12), torch.ones_like(snr))
    if prediction == "v_prediction":
        return capped / (snr + 1)
    raise ValueError("min-SNR weights are for epsilon and v-prediction, not for flow matching.")


def draw_noise(
    shape: Sequence[int], offset: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw noise on the CPU, the same numbers for every device.

    Args:
        shape: Of the latents, ``(n, channels, …)``.
        offset: Strength of the noise offset: a constant of its own, with this standard deviation,
            is added to each channel of each row.
        generator: Source of the numbers.

    Returns:
        Float32 of ``shape``.
    """
    noise = torch.randn(tuple(shape), generator=generator)
    if offset:
        constant = (*shape[:2], *(1 for _ in shape[2:]))
        noise = noise + offset * torch.randn(constant, generator=generator)
    return noise


def face_mask(
    faces: Sequence[Box | None], size: Size, latent: tuple[int, int], weight: float
) -> Tensor:
    """Return loss weights at latent resolution.

    Args:
        faces: Box of each row's face in the pixels of its crop, or ``None``.
        size: Of the crops.
        latent: Height and width of the latents.
        weight: Of the face; 1 beside it. A cell that the box covers in part is between.

    Returns:
        ``(n, 1, height, width)`` with the mean 1 in every row, so that the face gains what the rest
        loses and the learning rate keeps its meaning. A row without a face is all ones.
    """
    rows = []
    for face in faces:
        if face is None:
            rows.append(torch.ones(latent))
            continue
        across = _coverage(face[0], face[2], size.width, latent[1])
        down = _coverage(face[1], face[3], size.height, latent[0])
        mask = 1 + (weight - 1) * torch.outer(down, across)
        # A face that fills the crop at weight 0 would leave nothing to learn from.
        rows.append(mask / mask.mean() if mask.mean() > 0 else torch.ones(latent))
    return torch.stack(rows)[:, None]


def masked(mask: Tensor | None, shown: Tensor, unmasked: float) -> Tensor:
    """Return loss weights that also follow masks.

    Args:
        mask: Weights so far, ``(n, 1, height, width)``; ``None`` where all count alike.
        shown: Share of each cell that a mask covers, from 0 to 1, of that shape.
        unmasked: Weight of a pixel that is not covered at all, against one that is.

    Returns:
        The product with the mean 1 in every row, so that the learning rate keeps its meaning. A row
        of which nothing counts is all zeros.
    """
    weights = unmasked + (1 - unmasked) * shown
    if mask is not None:
        weights = weights * mask
    mean = weights.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(mean > 0, weights / mean.clamp_min(1e-12), 0.0)


def row_losses(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    loss: LossName = "mse",
    delta: Tensor | None = None,
) -> Tensor:
    """Return the mean loss of each row, in float32.

    With the error ``e`` of an element, ``mse`` is ``e²``. ``huber`` is that up to ``delta`` and
    ``delta (2|e| - delta)`` beyond, twice ``torch.nn.functional.huber_loss``, so that small errors
    count as in ``mse``; ``smooth_l1`` is ``huber / delta``, twice torch's function of that name.
    The factors are those of kohya's sd-scripts.

    Args:
        prediction: ``(n, …)``.
        target: Of the same shape.
        mask: Weights ``(n, 1, height, width)`` with the mean 1; all frames of a row share them.
        loss: What an element's error counts.
        delta: From which error on it counts linearly, ``(n,)``; not for ``mse``.
    """
    error = prediction.float() - target.float()
    losses = error**2 if delta is None or loss == "mse" else _huber(error, loss, delta)
    if mask is not None:
        frames = (1,) * (losses.dim() - mask.dim())
        losses = losses * mask.reshape(*mask.shape[:2], *frames, *mask.shape[2:]).to(losses.device)
    return losses.flatten(1).mean(1)


def _huber(error: Tensor, loss: LossName, delta: Tensor) -> Tensor:
    limit = delta.to(error).reshape(-1, *(1,) * (error.dim() - 1))
    size = error.abs()
    losses = torch.where(size <= limit, error**2, limit * (2 * size - limit))
    return losses / limit if loss == "smooth_l1" else losses


def huber_deltas(
    schedule: HuberSchedule, delta: float, timesteps: Tensor, snr: Tensor | None
) -> Tensor:
    """Return from which error on each row's loss is linear, as kohya's sd-scripts schedules it.

    Args:
        schedule: ``constant``: ``delta``. ``exponential``: ``delta ** (timestep / 1000)``, 1
            without noise. ``snr``: ``(1 - delta) / (1 + sigma)² + delta`` with
            ``sigma = snr ** -0.5``.
        delta: Above 0; where there is only noise.
        timesteps: Of the rows, from 0 to 1000.
        snr: Their signal-to-noise ratios; ``None`` for flow matching.

    Raises:
        SettingsError: The schedule is that of the ratio, and there is none.
    """
    if schedule == "constant":
        return torch.full((len(timesteps),), delta)
    if schedule == "exponential":
        return delta ** (timesteps.float().cpu() / _TIMESTEPS)
    if snr is None:
        raise SettingsError(
            "huber_schedule is 'snr', and a model that predicts a flow has no such ratio: use "
            "'constant' or 'exponential'."
        )
    sigma = snr.float().cpu() ** -0.5
    return (1 - delta) / (1 + sigma) ** 2 + delta


def row_weights(
    prior: Sequence[bool],
    prior_weight: float,
    snr: Tensor | None = None,
    gamma: float | None = None,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Return what each row counts.

    Args:
        prior: Which rows are prior-preservation images.
        prior_weight: What those count.
        snr: Signal-to-noise ratio of the same rows; ``None`` for flow matching.
        gamma: Of :func:`min_snr_weights`, if wanted; without ``snr`` it has no effect.
        prediction: What the model predicts.

    Returns:
        Float32, ``(n,)``.

    Raises:
        ValueError: There are not as many ratios as rows.
    """
    weights = torch.tensor([prior_weight if is_prior else 1.0 for is_prior in prior])
    if gamma is None or snr is None:
        return weights
    if snr.shape != weights.shape:
        raise ValueError(
            f"{tuple(snr.shape)} signal-to-noise ratios for {how_many(len(prior), 'row')}."
        )
    return weights * min_snr_weights(snr, gamma, prediction).cpu()


def _coverage(low: float, high: float, length: int, cells: int) -> Tensor:
    """Return which share of each of ``cells`` equal parts of ``0 … length`` the span covers."""
    edges = torch.linspace(0, length, cells + 1, dtype=torch.float64)
    covered = edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)
    return (covered.clamp(min=0) / (length / cells)).float()
