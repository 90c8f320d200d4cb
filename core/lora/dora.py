"""DoRA in files: one adapter, two readings of its magnitude.

With W the frozen weight, D the low-rank update and ‖·‖ the norm of a row, peft computes
``m (W + D) / ‖W + D‖`` (arXiv 2402.09353). A file's ``dora_scale`` of shape ``(out, 1, …)`` is read
by ComfyUI as ``dora_scale (W + D) / ‖W‖``. The image is the same when
``dora_scale = m ‖W‖ / ‖W + D‖``, which is what files hold. ``load_lora_weights`` of diffusers drops
every ``dora_scale``; it takes the magnitude itself, under peft's names.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scale_of(magnitude: Tensor, weight: Tensor, update: Tensor) -> Tensor:
    """Return the ``dora_scale`` of a layer, for files.

    Args:
        magnitude: peft's, of any shape with ``out`` elements.
        weight: The frozen weight, ``(out, in)`` or ``(out, in, height, width)``.
        update: The low-rank update with its scale, of the weight's shape.

    Returns:
        float32 of shape ``(out, 1)`` or ``(out, 1, 1, 1)``.
    """
    ratio = _plain_norm(weight) / _norm(weight.float() + update.float())
    return (magnitude.float().reshape(-1) * ratio).reshape(-1, *[1] * (weight.dim() - 1))


def magnitude_of(scale: Tensor, weight: Tensor, update: Tensor) -> Tensor:
    """Return peft's magnitude of a file's ``dora_scale``: the inverse of :func:`scale_of`.

    Returns:
        float32 of shape ``(out,)``, for convolutions ``(1, out, 1, 1)``, as peft keeps them.
    """
    ratio = _norm(weight.float() + update.float()) / _plain_norm(weight)
    magnitude = scale.float().reshape(-1) * ratio
    return magnitude if weight.dim() == 2 else magnitude.reshape(1, -1, *[1] * (weight.dim() - 2))


def difference(scale: Tensor, weight: Tensor, update: Tensor) -> Tensor:
    """Return what the whole adapter adds to the weight, in float64."""
    wide = weight.double()
    rows = scale.double().reshape(-1) / _plain_norm(weight).double()
    return rows.reshape(-1, *[1] * (wide.dim() - 1)) * (wide + update.double()) - wide


def low_rank(matrix: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Return the smallest ``up @ down`` within a relative Frobenius error of a matrix.

    Args:
        matrix: ``(out, in)``.
        error: Largest norm of what is lost, relative to the matrix's.

    Returns:
        ``up`` of shape ``(out, rank)`` and ``down`` of shape ``(rank, in)``, float32.
    """
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    lost = s.square().flip(0).cumsum(0).flip(0).sqrt()  # of cutting before each singular value
    rank = max(1, int((lost > error * s.square().sum().sqrt()).sum()))
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()


def _norm(weight: Tensor) -> Tensor:
    return weight.float().flatten(1).norm(dim=1)


def _plain_norm(weight: Tensor) -> Tensor:
    # ComfyUI adds the smallest step of its number type against division by zero.
    return _norm(weight) + torch.finfo(torch.float32).eps
