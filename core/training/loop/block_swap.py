"""Block swap: the frozen weights of a model's last blocks are on the card while they compute.

A block's weights are fetched before it computes and let go after it, forward and backward; with
CUDA the next block's come meanwhile, on a stream of their own, from pinned memory. Autograd would
hold on to the weights of the forward pass, so a swapped block computes its activations again for
the backward pass, as gradient checkpointing has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...counts import how_many
from ...errors import CuratorError
from .blocks import repeated_blocks


class BlockSwapError(CuratorError):
    """Blocks can't be swapped as the settings say."""


def swapped_blocks(model: nn.Module, count: int) -> list[nn.Module]:
    """Return a model's last blocks, those that are swapped.

    Raises:
        BlockSwapError: It has fewer.
    """
    found = repeated_blocks(model)
    if count > len(found):
        raise BlockSwapError(
            f"block_swap is {count}, and {type(model).__name__} has "
            f"{how_many(len(found), 'block')}. Give fewer."
        )
    return found[len(found) - count :] if count else []


def bytes_of(blocks: Sequence[nn.Module]) -> int:
    """Return how many bytes the frozen weights of some blocks take."""
    return sum(weight.nbytes for block in blocks for weight in _frozen(block))


class BlockSwap:
    """Holds the frozen weights of some blocks in memory, and lends them to the device.

    Args:
        blocks: In the order in which they compute; none of them within another.
        device: Where they compute.
        watch: Told of every block that is fetched or let go: ``load`` or ``release``, and its
            position.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        watch: Callable[[str, int], None] = lambda _, __: None,
    ) -> None:
        self._blocks, self._device, self._watch = tuple(blocks), device, watch
        self._weights = [_frozen(block) for block in self._blocks]
        self._homes: list[list[Tensor]] = []
        self._origin: list[torch.device] = []
        self._there: dict[int, tuple[list[Tensor], Any]] = {}
        self._in_use: set[int] = set()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __enter__(self) -> BlockSwap:
        """Take the weights from the device, and put fetching in front of the blocks."""
        for position, (block, weights) in enumerate(zip(self._blocks, self._weights, strict=True)):
            self._origin.append(weights[0].device if weights else self._device)
            self._homes.append([self._home(weight) for weight in weights])
            self._empty(position)
            block.forward = self._swapping(position, block.forward)
        return self

    def __exit__(self, *_: object) -> None:
        """Put everything back where it was."""
        for position, block in enumerate(self._blocks[: len(self._homes)]):
            del block.forward
            homes = zip(self._weights[position], self._homes[position], strict=True)
            for weight, home in homes:
                weight.data = home.to(self._origin[position])
        self._homes, self._there = [], {}

    def load(self, position: int, ahead: int) -> None:
        """Fetch a block's weights, and begin with those of the block that comes next.

        Args:
            position: The block's.
            ahead: 1 while the model computes forward, -1 on the way back.
        """
        if position not in self._there:
            self._there[position] = self._fetched(position)
        values, event = self._there.pop(position)
        if event is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(event)
            for value in values:
                value.record_stream(now)
        for weight, value in zip(self._weights[position], values, strict=True):
            weight.data = value
        self._in_use.add(position)
        self._watch("load", position)
        following = position + ahead
        if self._stream is not None and 0 <= following < len(self._blocks):
            # What was fetched for the other direction is of no use any more.
            self._there = {n: kept for n, kept in self._there.items() if n == following}
            if following not in self._there and following not in self._in_use:
                self._there[following] = self._fetched(following)

    def release(self, position: int) -> None:
        """Let a block's weights go."""
        if position in self._in_use:
            self._in_use.discard(position)
            self._empty(position)
            self._watch("release", position)

    def _home(self, weight: Tensor) -> Tensor:
        home = weight.detach().to("cpu", copy=True)
        return home.pin_memory() if self._stream is not None else home

    def _empty(self, position: int) -> None:
        for weight in self._weights[position]:
            weight.data = torch.empty(0, dtype=weight.dtype, device=self._device)

    def _fetched(self, position: int) -> tuple[list[Tensor], Any]:
        homes = self._homes[position]
        if self._stream is None:
            return [home.to(self._device, copy=True) for home in homes], None
        with torch.cuda.stream(self._stream):
            values = [home.to(self._device, non_blocking=True) for home in homes]
            event = torch.cuda.Event()
            event.record(self._stream)
        return values, event

    def _swapping(self, position: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        block = self._blocks[position]

        def run(*arguments: Any, **options: Any) -> Any:
            tensors: list[Tensor] = []
            rebuild = _taken_apart((arguments, options), tensors)
            wants = any(t.requires_grad for t in (*tensors, *block.parameters()))
            if not (torch.is_grad_enabled() and wants):
                self.load(position, 1)
                try:
                    return forward(*arguments, **options)
                finally:
                    self.release(position)
            made: list[Any] = []

            def compute(_: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
                again = torch.is_grad_enabled()  # the backward pass's own turn
                self.load(position, -1 if again else 1)
                try:
                    inner, named = rebuild(iter(given))
                    found: list[Tensor] = []
                    made[:] = [_taken_apart(forward(*inner, **named), found)]
                except BaseException:
                    self.release(position)
                    raise
                if not again:
                    self.release(position)
                return tuple(found)

            # Released when the block's own backward pass is over.
            start = torch.zeros((), device=self._device, requires_grad=True)
            anchor = _Released.apply(start, self, position)
            outputs = checkpoint(compute, anchor, *tensors, use_reentrant=True)
            return made[0](iter(outputs))

        return run


class _Released(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, swap: BlockSwap, position: int) -> Tensor:  # type: ignore[override]
        ctx.swap, ctx.position = swap, position
        return anchor.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        ctx.swap.release(ctx.position)
        return gradient, None, None


def _frozen(block: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in block.parameters() if not weight.requires_grad]


def _taken_apart(value: Any, tensors: list[Tensor]) -> Callable[[Iterator[Tensor]], Any]:
    """Put a value's tensors onto a list; return what builds it again from others in their place."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return next
    if isinstance(value, Mapping):
        parts = {name: _taken_apart(part, tensors) for name, part in value.items()}
        return lambda others: {name: part(others) for name, part in parts.items()}
    if type(value) in (tuple, list):
        several = [_taken_apart(part, tensors) for part in value]
        kind = type(value)
        return lambda others: kind(part(others) for part in several)
    return lambda _: value


@contextmanager
def swapped(model: nn.Module, count: int, device: torch.device) -> Iterator[str]:
    """Swap a model's last blocks for a while.

    Args:
        model: A diffusion model with its adapters in place.
        count: How many of its blocks; 0 swaps none.
        device: Where it computes.

    Yields:
        What is done, in words; nothing for 0.

    Raises:
        BlockSwapError: It has fewer blocks.
    """
    chosen = swapped_blocks(model, count)
    if not chosen:
        yield ""
    elif device.type == "cpu":
        yield "block_swap has no effect on a CPU: the weights are in its memory already."
    else:
        size = bytes_of(chosen) / 1e6
        with BlockSwap(chosen, device):
            yield (
                f"Block swap: the frozen weights of the last {count} of "
                f"{how_many(len(repeated_blocks(model)), 'block')}, {size:.0f} MB, are on the card "
                "while they compute."
            )
