"""Several processes on one training, as ``accelerate launch`` starts them.

Every process holds the whole model (or a part of its frozen blocks: :mod:`.sharding`) and takes a
part of the rows of each optimizer step; gradients are added up before the step is taken, so all
processes hold the same weights at any time. As each row draws its noise from a generator of its
own, the gradient is that of one process with the same batch, up to the order of summation.
(Dropout inside the adapters is drawn for a batch as a whole, and differs.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CuratorError, MissingDependencyError
from ..data.order import Batch

_PATIENCE = timedelta(days=7)
"""The first process encodes and samples while the others wait, which takes as long as it takes; one
that has ended is noticed at once, by its closed connection or by what started it."""


class ProcessLostError(CuratorError):
    """Another process of the training has ended, or can't be reached any more."""

    def __init__(self, rank: int, count: int, error: Exception) -> None:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        super().__init__(
            f"Process {rank} of {count} (counted from 0) has lost another process of this "
            f"training: {reason}. What that one has said is the cause. Start the same command "
            "again: it goes on from the last state that was saved."
        )


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen by one of them.

    Attributes:
        rank: Number of this process; 0 writes the files and tells of the progress.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1
    _state: Any = field(default=None, repr=False)

    @staticmethod
    def current() -> Processes:
        """Return the processes that a launcher has started this one among; else this one alone.

        Raises:
            MissingDependencyError: A launcher did, and ``accelerate`` is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Processes()
        try:
            from accelerate import PartialState
        except ImportError:
            raise MissingDependencyError(
                "accelerate", "Training with several processes", "pip install accelerate"
            ) from None
        told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        cpu = told or not torch.cuda.is_available()
        options: dict[str, Any] = {"cpu": True, "backend": "gloo"} if cpu else {}
        state = PartialState(**options, timeout=_PATIENCE)
        return Processes(state.process_index, state.num_processes, state)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, batches: Sequence[Batch]) -> list[tuple[int, Batch]]:
        """Return this process's part of a step: runs of rows, each with its position in the step.

        Args:
            batches: Of the step.
        """
        rows = sum(len(batch) for batch in batches)
        begin, end = (rows * r // self.count for r in (self.rank, self.rank + 1))
        part, first = [], 0
        for batch in batches:
            low, high = max(begin - first, 0), min(end - first, len(batch))
            if low < high:
                part.append((first + low, batch[low:high]))
            first += len(batch)
        return part

    def passes(self, batches: Sequence[Batch]) -> int:
        """Return the most runs of rows that a process has of a step."""
        return max(len(Processes(rank, self.count).share(batches)) for rank in range(self.count))

    def add_gradients(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        """Add up the gradients of all processes, in place; return the sum of their losses."""
        if self.count == 1:
            return loss
        listed = list(parameters)
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in listed]
        flat = torch.cat([grad.reshape(-1).float() for grad in grads])
        self.add(flat)
        offset = 0
        for parameter, grad in zip(listed, grads, strict=True):
            parameter.grad = flat[offset : offset + grad.numel()].view_as(grad).to(grad.dtype)
            offset += grad.numel()
        whole = torch.tensor([loss], dtype=torch.float64, device=flat.device)
        return float(self.add(whole))

    def add(self, values: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes, in place.

        Raises:
            ProcessLostError: One of them is gone.
        """
        if self.count > 1:
            with self._together():
                torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Go on when all processes have come here.

        Raises:
            ProcessLostError: One of them is gone.
        """
        if self.count > 1:
            with self._together():
                self._state.wait_for_everyone()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Name the loss of another process."""
        try:
            yield
        except RuntimeError as error:  # torch's errors of communication have no base of their own
            raise ProcessLostError(self.rank, self.count, error) from error

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process go through the context, and the others after it."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()
