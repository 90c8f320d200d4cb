"""Block swap on the wires: ComfyUI's own partial loading, with gradients through it.

ComfyUI keeps a model's weights in memory as far as it is told to, and brings each layer's to the
card for the moment in which that computes, ahead of time on streams of its own where the device
can. Autograd would hold on to what was brought, and ComfyUI writes over it; so a layer that is not
on the card computes once more in its backward pass, as ComfyUI's own training with offloading has
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ...core.counts import how_many
from ...core.training.loop.block_swap import bytes_of, swapped_blocks
from ...core.training.loop.blocks import repeated_blocks

_ALL_THERE_IS = 1e20


class PartialLoading:
    """Keeps as many bytes off the card as a model's last blocks take.

    Which layers these are is for ComfyUI to choose.

    Args:
        patcher: A ``ModelPatcher`` whose weights are not in dynamic VRAM.
        count: How many blocks.

    Raises:
        BlockSwapError: The model has fewer.
    """

    def __init__(self, patcher: Any, count: int) -> None:
        self._patcher, self._count = patcher, count
        self._total = len(repeated_blocks(patcher.model.diffusion_model))
        self._size = bytes_of(swapped_blocks(patcher.model.diffusion_model, count))
        self._layers: list[nn.Module] = []
        self.note = ""

    def load(self) -> None:
        """Load the model but for those bytes; what else ComfyUI has loaded makes room."""
        management, patcher = comfy.model_management, self._patcher
        device = patcher.load_device
        management.free_memory(_ALL_THERE_IS, device)
        on_card = patcher.model_size() - self._size
        management.load_models_gpu(
            [patcher],
            memory_required=_ALL_THERE_IS,
            minimum_memory_required=max(0, management.get_free_memory(device) - on_card),
            force_full_load=False,
        )
        there = sum(_bytes(layer) for layer in self._away())
        if there < self._size:
            patcher.partially_unload(patcher.offload_device, self._size - there)
        self._open()

    def close(self) -> None:
        """Take gradients' ways away again; ComfyUI's loading stays as it is."""
        for layer in self._layers:
            del layer.forward
        self._layers = []

    def _open(self) -> None:
        self._layers = [layer for layer in self._away() if "forward" not in vars(layer)]
        for layer in self._layers:
            layer.forward = _computed_again(layer.forward)
        size = sum(map(_bytes, self._layers))
        self.note = (
            f"Block swap: {how_many(len(self._layers), 'layer')}, {size / 1e6:.1f} MB, as much as "
            f"the last {self._count} of {how_many(self._total, 'block')}, left to ComfyUI's "
            "partial loading, which brings their weights to the card while they compute."
        )

    def _away(self) -> list[nn.Module]:
        """Return the layers whose weights ComfyUI brings when they compute."""
        return [
            layer
            for layer in self._patcher.model.diffusion_model.modules()
            if hasattr(layer, "prev_comfy_cast_weights")
            and not getattr(layer, "comfy_patched_weights", False)
        ]


def _bytes(layer: nn.Module) -> int:
    return sum(weight.nbytes for weight in layer.parameters(recurse=False))


def _computed_again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        value = arguments[0] if arguments else None
        if torch.is_grad_enabled() and isinstance(value, Tensor) and value.requires_grad:
            return _Again.apply(value, lambda x: forward(x, *arguments[1:], **options))
        return forward(*arguments, **options)  # which keeps nothing for a backward pass

    return run


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(value)
        ctx.compute = compute
        return compute(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:  # type: ignore[override]
        (value,) = ctx.saved_tensors
        with torch.enable_grad():
            again = value.detach().requires_grad_()
            ctx.compute(again).backward(gradient)
        return again.grad, None
