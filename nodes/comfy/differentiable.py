"""Plain formulas in the place of ComfyUI's fused kernels, through which no gradient flows.

``comfy_kitchen`` fuses norm, rotation and modulation into kernels without a derivative. Models ask
whether they are trained before they call one, but not all of them do, and older versions never do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Within the context, ComfyUI's models compute what they fuse step by step."""
    kitchen = sys.modules.get("comfy_kitchen")
    fused = {
        getattr(kitchen, name): plain for name, plain in _PLAIN.items() if hasattr(kitchen, name)
    }
    replaced = []
    for module in _of_comfyui() if fused else ():
        for name, value in list(vars(module).items()):
            if callable(value) and _is_hashable(value) and value in fused:
                replaced.append((module, name, value))
                setattr(module, name, fused[value])
    try:
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


def _of_comfyui() -> Iterator[Any]:
    """Yield the modules that may have a kernel under a name of their own."""
    for name, module in list(sys.modules.items()):
        if name == "comfy_kitchen" or name.startswith("comfy.ldm.") or name == "comfy.quant_ops":
            yield module


def _is_hashable(value: Any) -> bool:
    return getattr(type(value), "__hash__", None) is not None


def _rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighbours, elements 2k and 2k + 1, by a matrix each."""
    if x.dim() > 2 and rotation.dim() > 2 and x.shape[2] != 1 and rotation.shape[2] > x.shape[2]:
        rotation = rotation[:, :, : x.shape[2]]
    pairs = x.to(rotation.dtype).reshape(*x.shape[:-1], -1, 1, 2)
    return (rotation * pairs).sum(-1).reshape(x.shape).type_as(x)


def _rotated_halves(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate elements k and k + half by a matrix each."""
    pairs = x.to(rotation.dtype).unflatten(-1, (2, -1)).movedim(-2, -1).unsqueeze(-2)
    return (rotation * pairs).sum(-1).movedim(-1, -2).reshape(x.shape).type_as(x)


def _normed(x: Tensor, scale: Tensor | None, epsilon: float) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], weight=scale, eps=epsilon)


def _of_one(turn: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def norm_and_rotate(
        x: Tensor, freqs_cis: Tensor, scale: Tensor, epsilon: float = 1e-6, rot_dim: int = 0
    ) -> Tensor:
        x = _normed(x, scale, epsilon)
        if rot_dim and rot_dim != x.shape[-1]:
            return torch.cat((turn(x[..., :rot_dim], freqs_cis), x[..., rot_dim:]), dim=-1)
        return turn(x, freqs_cis)

    return norm_and_rotate


def _of_two(turn: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    one = _of_one(turn)

    def norm_and_rotate(
        q: Tensor,
        k: Tensor,
        freqs_cis: Tensor,
        q_scale: Tensor,
        k_scale: Tensor | None = None,
        epsilon: float = 1e-6,
        rot_dim: int = 0,
    ) -> tuple[Tensor, Tensor]:
        other = q_scale if k_scale is None else k_scale
        return one(q, freqs_cis, q_scale, epsilon, rot_dim), one(
            k, freqs_cis, other, epsilon, rot_dim
        )

    return norm_and_rotate


def _both(turn: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def rotate(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
        return turn(xq, freqs_cis), turn(xk, freqs_cis)

    return rotate


def _layer_modulated(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


def _root_modulated(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    return _normed(x, None, eps) * (1 + scale) + shift


_PLAIN: Mapping[str, Callable[..., Any]] = {
    "apply_rope1": lambda x, freqs_cis: _rotated(x, freqs_cis),
    "apply_rope": _both(_rotated),
    "apply_rope_split_half1": lambda x, freqs_cis: _rotated_halves(x, freqs_cis),
    "apply_rope_split_half": _both(_rotated_halves),
    "rms_rope1": _of_one(_rotated),
    "rms_rope": _of_two(_rotated),
    "rms_rope_split_half1": _of_one(_rotated_halves),
    "rms_rope_split_half": _of_two(_rotated_halves),
    "adaln": _layer_modulated,
    "rms_adaln": _root_modulated,
}
"""By the kernels' names."""
