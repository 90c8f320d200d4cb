"""What the generation loop asks of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..hashing import json_hash

if TYPE_CHECKING:
    import numpy as np

    from ..plan import Request

StepCallback = Callable[[int, int], None]
"""Called with (step, steps) while a batch is sampled; it may raise to cancel."""

_WHEREABOUTS = ("model", "path")


class Backend(Protocol):
    """Makes images of requests.

    The image of a request must depend on the request, ``settings``, ``conditions``, its row in
    the batch and the batch's size, and on nothing else: not on its neighbours, nor on what was
    made before.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides the images besides the requests, ready for JSON.

        The key ``backend`` names the kind of back end, for :func:`..reproduce.reproduce`.
        """
        ...

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What may change the last bits of a pixel: versions, device, threads; ready for JSON."""
        ...

    @property
    def maximum_batch(self) -> int | None:
        """The largest batch whose rows are independent of each other; ``None`` if all are."""
        ...

    def sample(
        self, requests: Sequence[Request], on_step: StepCallback | None = None
    ) -> np.ndarray:
        """Make an image a request, as one batch.

        Returns:
            uint8 RGB array of shape ``(len(requests), height, width, 3)``.
        """
        ...


def request_fingerprint(request: Request, settings: Mapping[str, Any]) -> str:
    """Hash what an image shows: the request's identity and prompts, and the model's settings.

    Left out is what does not change the image (category, caption, where a model lies on this
    disk) and what changes no more than the last bits of its pixels (batch size, versions, device):
    none of these makes it worthwhile to make an image again.
    """
    described = {
        "subject": request.subject,
        "seed": request.seed,
        "kind": request.kind,
        "scenario": request.scenario,
        "take": request.take,
        "noise_seed": request.noise_seed,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        # Of a single file, where its configurations come from; a scheduler's own is no place.
        "settings": _without_whereabouts({k: v for k, v in settings.items() if k != "config"}),
    }
    return json_hash(described)


def row_of(request: Request, batch_size: int) -> int:
    """Return the row that a request has in every batch of this size: (seed + number + take) mod.

    On CPUs the last bits of a row can depend on where in the batch it stands (measured: batches of
    3 on 2 threads, or latents of odd sizes), though never on its neighbours. A row that follows
    from the request alone makes images the same in every order, shard and resumption. This rule
    spreads consecutive seeds and numbers evenly.
    """
    return (request.seed + request.scenario + request.take) % batch_size


def _without_whereabouts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_whereabouts(v) for k, v in value.items() if k not in _WHEREABOUTS}
    if isinstance(value, (list, tuple)):
        return [_without_whereabouts(entry) for entry in value]
    return value
