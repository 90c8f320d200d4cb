"""The work of the generation loop: what a worker makes of a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engines.cores import own_processors
from ..engines.work import Needs, Tell
from ..plan import Request
from . import png
from .backend import Backend


@dataclass(frozen=True)
class Wanted:
    """An image that is to be made, and what is written beside its pixels."""

    request: Request
    fingerprint: str
    """Of the request; the key ``request`` of the record."""
    note: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the record."""
    texts: Mapping[str, str] | None = None
    """Further PNG text chunks."""


Batch = tuple[Wanted | None, ...]
"""A full batch, each image at its own row; ``None`` where a row is not wanted."""
Made = list[tuple[Request, dict[str, Any]]]
"""The requests of a batch, with their rows of the table."""


@dataclass(frozen=True)
class Generating:
    """Samples batches and writes their images; see :class:`..engines.work.Work`.

    Notes are (first file's name, step, steps). Every file of a batch is on disk when its result is
    there.
    """

    backend: Backend
    folder: Path

    @property
    def needs(self) -> Needs:
        """What a worker takes: its back end says so."""
        return getattr(self.backend, "needs", Needs())

    def open(self, tell: Tell) -> Callable[[Batch], Made]:
        """Return what makes a batch. The model loads with the first."""

        def make(batch: Batch) -> Made:
            wanted = [(row, one) for row, one in enumerate(batch) if one is not None]
            first = wanted[0][1].request
            # Pad with any request: a row does not depend on its neighbours.
            full = [first if one is None else one.request for one in batch]
            pixels = self.backend.sample(
                full, lambda step, steps: tell((first.file_name, step, steps))
            )
            settings, conditions = self.backend.settings, self.backend.conditions

            def save(item: tuple[int, Wanted]) -> tuple[Request, dict[str, Any]]:
                row, one = item
                place = (len(batch), row)
                record = record_of(one.request, one.fingerprint, settings, conditions, place)
                record |= one.note
                path = self.folder / one.request.file_name
                data = png.write(path, pixels[row], record, one.texts)
                height, width = pixels[row].shape[:2]
                return one.request, columns_of(one.request, data, (width, height), record)

            with ThreadPoolExecutor(max_workers=min(8, own_processors())) as pool:
                return list(pool.map(save, wanted))

        return make


def record_of(
    request: Request,
    fingerprint: str,
    settings: Mapping[str, Any],
    conditions: Mapping[str, Any],
    batch: tuple[int, int],
) -> dict[str, Any]:
    """Return what an image says of itself: enough to make it again.

    Args:
        request: What was asked for; its fields are the record's.
        fingerprint: The request's fingerprint, under the key ``request``.
        settings: Of the back end.
        conditions: Of the back end.
        batch: Size of the batch and row in it.
    """
    return {
        **request.as_row(),
        "request": fingerprint,
        "settings": dict(settings),
        "batch": {"size": batch[0], "row": batch[1]},
        "conditions": dict(conditions),
        "version": png.RECORD_VERSION,
    }


def columns_of(
    request: Request, data: bytes, size: tuple[int, int], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an image's row of the table.

    Args:
        request: What was asked for.
        data: The file's bytes.
        size: Width and height in pixels.
        record: What the image says of itself.
    """
    return {
        **request.as_row(),
        "path": request.file_name,
        "hash": hashlib.sha256(data).hexdigest(),
        "width": size[0],
        "height": size[1],
        "request": record["request"],
        "generation": json.dumps(record, ensure_ascii=True, separators=(",", ":")),
    }
