"""The generation loop: every request of a plan becomes a file, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..counts import how_many, worded
from ..damages import note_damage
from ..engines.cores import processors
from ..engines.here import Here
from ..engines.sharing import check_seen
from ..engines.work import Counted
from ..errors import CuratorError
from ..imageset import ImageSet
from ..naming import first_of
from ..plain_files import plain_bytes
from ..plan import Plan, Request
from ..plan import shard as shard_of
from ..progress import Progress, silent
from . import png
from .backend import Backend, request_fingerprint, row_of
from .batch import Batch, Generating, Wanted, columns_of
from .batch import record_of as record_of

if TYPE_CHECKING:
    from ..engines.work import Engine

log = logging.getLogger(__name__)

GENERATING = "Generating"
"""What a watcher is told this stage is called."""

_CHANGED = "prompt, model or settings have changed"


class BatchSizeError(CuratorError):
    """Images are to be made in batches of less than one."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(
            f"batch_size = {batch_size}: a batch needs one image at least. Give 1, or more."
        )


class ForeignFileError(CuratorError):
    """A file that this tool has not made is where an image would go."""


def generate(
    plan: Plan | Sequence[Request],
    backend: Backend,
    output: Path | str,
    *,
    batch_size: int = 8,
    progress: Progress = silent,
    shard: tuple[int, int] = (0, 1),
    texts: Callable[[Request], Mapping[str, str]] | None = None,
    note: Callable[[Request], Mapping[str, Any]] | None = None,
    engine: Engine | None = None,
) -> ImageSet:
    """Make the images of a plan that are not there yet.

    A whole file whose record has the fingerprint of its request is kept. A damaged one, and one
    that was made from another prompt or model, is made again. Files appear whole; each batch is
    on disk before the next begins, so that an interrupt or a kill loses the batch in flight and
    nothing else, and the same call continues. Pixels do not depend on what was there before, on
    the order, or on the shard.

    Args:
        plan: A plan, or some of its requests.
        backend: The model.
        output: The folder; made if absent.
        batch_size: Images that are sampled together. The same size gives the same pixels, bit by
            bit; another size gives the same images up to rounding.
        progress: Watches; a step is an image.
        shard: Which part this process makes: (index, count).
        texts: Returns further PNG text chunks for a request, by keyword.
        note: Returns further keys of a request's record, which do not change the image.
        engine: Where batches are sampled and written; in this process unless given.

    Returns:
        The requests of this shard, a row an image, in the plan's order.

    Raises:
        BatchSizeError: A batch is to have less than one image.
        ForeignFileError: An image would overwrite a file that is not this tool's.
        OutputError: The disk is full, or the folder can't be written to.
    """
    requests = plan.requests() if isinstance(plan, Plan) else tuple(plan)
    requests = tuple(dict.fromkeys(shard_of(requests, *shard)))
    if batch_size < 1:
        raise BatchSizeError(batch_size)
    size = min(batch_size, backend.maximum_batch or batch_size)
    folder = Path(output).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise png.output_error(folder, error) from error

    settings = dict(backend.settings)
    marks = {request: request_fingerprint(request, settings) for request in requests}
    rows: dict[Request, dict[str, Any]] = {}

    def chunks(missing: Iterable[Request]) -> Iterator[Batch]:
        for batch in batches(missing, size):
            yield tuple(
                None
                if request is None
                else Wanted(
                    request,
                    marks[request],
                    note(request) if note else {},
                    texts(request) if texts else None,
                )
                for request in batch
            )

    def step(note: tuple[str, int, int]) -> None:
        name, number, steps = note
        progress.advance(0, f"{name} …: step {number} of {steps}")

    progress.start(GENERATING, len(requests))
    try:
        with ThreadPoolExecutor(max_workers=min(8, processors())) as pool:
            kept = pool.map(lambda request: _kept(folder, request, marks[request]), requests)
            faults: dict[str, list[str]] = {}
            for request, row in zip(requests, kept, strict=True):
                if isinstance(row, str):
                    faults.setdefault(row, []).append(request.file_name)
                elif row is not None:
                    rows[request] = row
            for reason, names in sorted(faults.items()):
                if reason != _CHANGED:
                    note_damage("images", folder, "made again", len(names))
                log.warning("%s", _said_again(folder, reason, names, len(requests)))
            if rows:
                progress.advance(len(rows), "already there")
                log.info(
                    "%d of %s in %s %s there and kept.", len(rows),
                    how_many(len(requests), "image"), folder, worded(len(rows), "is", "are"),
                )  # fmt: skip
            missing = [request for request in requests if request not in rows]
        work = Generating(backend, folder)
        count = sum(1 for _ in batches(missing, size))
        todo = Counted(chunks(missing), count)
        remote = engine is not None and engine.remote
        with closing((engine or Here()).map(work, todo, tell=step)) as results:
            for number, made in enumerate(results):
                if number == 0 and remote:  # not only when all is made
                    check_seen(folder / request.file_name for request, _ in made)
                for request, row in made:
                    rows[request] = row
                    progress.advance(1, request.file_name)
        if remote:
            check_seen(folder / request.file_name for request in missing)
    finally:
        progress.finish()
    return ImageSet.from_rows((rows[request] for request in requests), folder)


def batches(requests: Iterable[Request], size: int) -> Iterator[list[Request | None]]:
    """Deal requests out to full batches, each at its own row.

    Yields:
        Lists of ``size``; ``None`` where no request of that row is left.
    """
    queues: list[list[Request]] = [[] for _ in range(size)]
    for request in requests:
        queues[row_of(request, size)].append(request)
    for turn in range(max((len(queue) for queue in queues), default=0)):
        yield [queue[turn] if turn < len(queue) else None for queue in queues]


def _said_again(folder: Path, reason: str, names: Sequence[str], total: int) -> str:
    """Say that images are made again in the place of others, before that is done."""
    count = len(names)
    listed = first_of(names)
    return (
        f"{count:,} of {how_many(total, 'image')} in {folder} {worded(count, 'is', 'are')} made "
        f"again, in the place of the {worded(count, 'file')} there: {reason} ({listed})."
    )


def _kept(folder: Path, request: Request, fingerprint: str) -> dict[str, Any] | str | None:
    """Return the row of an image that is there already; else why it is made again, if it was."""
    path = folder / request.file_name
    with suppress(OSError):
        png.temporary_path(path).unlink()
    try:
        data = plain_bytes(path)
        record = png.read_record(data)
    except FileNotFoundError:
        return None
    except (OSError, png.DamagedPngError) as error:
        return str(error)
    if record is None:
        raise ForeignFileError(
            f"{path} exists and was not made by this tool (it has no generation record). Move it "
            "away, or choose another output folder."
        )
    if record.get("request") != fingerprint:
        return _CHANGED
    # Signature (8), length and type of the first chunk (8), then width and height.
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return columns_of(request, data, (width, height), record)
