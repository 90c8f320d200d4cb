"""The frozen weights of a model's blocks, divided among the processes of a training.

Each process keeps its part of every block's frozen weights, and has the whole of a block's only
while that computes: PyTorch's FSDP2 (``fully_shard``), forward and backward. What is trained is
left out of that: it is small, every process holds all of it, and gradients are added up as
without shards, so that the weights come out the same.

While a block computes all processes give their parts, so all must compute equally often: see
:func:`.gradients.add_gradients`. For that reason nothing is sampled with a sharded model, which the
first process alone would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...counts import how_many
from ...errors import CuratorError
from .block_swap import bytes_of
from .blocks import repeated_blocks
from .processes import Processes


class ShardingError(CuratorError):
    """The model can't be divided as the settings say."""


@contextmanager
def sharded(model: nn.Module, wanted: bool, processes: Processes) -> Iterator[str]:
    """Divide the frozen weights of a model's blocks among processes, from now on.

    Args:
        model: With its adapters in place; it stays divided.
        wanted: Otherwise nothing is done.
        processes: Who share them.

    Yields:
        What was done, in words.

    Raises:
        ShardingError: The model has no blocks.
    """
    if not wanted:
        yield ""
        return
    if processes.count == 1:
        yield "shard_base had no effect: there is one process, started without a launcher."
        return
    found = repeated_blocks(model)
    if not found:
        raise ShardingError(
            f"{type(model).__name__} has no repeated blocks that could be divided among processes. "
            "Leave shard_base out."
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = bytes_of(found)
    kept = 0
    mesh = init_device_mesh(next(model.parameters()).device.type, (processes.count,))
    for block in found:
        trained = {weight for weight in block.parameters() if weight.requires_grad}
        for weight in set(block.parameters()) - trained:
            weight.data = weight.data.contiguous()  # a UNet's may be in channels-last order
        fully_shard(block, mesh=mesh, ignored_params=trained)
        for weight in block.parameters():
            part: Any = weight
            kept += 0 if weight in trained else part.to_local().nbytes
    yield (
        f"Each of {how_many(processes.count, 'process')} holds a part of the frozen weights of "
        f"{how_many(len(found), 'block')}: {kept / 1e6:,.1f} of {whole / 1e6:,.1f} MB. Nothing is "
        "sampled with a divided model."
    )
