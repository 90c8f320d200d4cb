"""Which images a step sees: functions of the seed and the epoch alone, and of the contents.

No random state is carried from step to step, so a run that was interrupted continues exactly as
it would have gone on, and renaming or reordering files changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

Batch = tuple[int, ...]
"""Positions in the list of examples; all of one bucket."""


def draw(*parts: object) -> int:
    """Derive a number in 0 <= n < 2**63 from what names it (SHA-256 of the parts' text)."""
    text = "\n".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def epoch_batches(
    hashes: Sequence[str],
    buckets: Sequence[Hashable],
    prior: Sequence[bool],
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    repeats: int | Sequence[int] = 1,
) -> list[Batch]:
    """Arrange the batches of an epoch.

    Every image of the subject is shown ``repeats`` times. With each goes one prior-preservation
    image; where there are more of those, the epochs take turns through them.

    Args:
        hashes: Content hash of each example.
        buckets: Its bucket.
        prior: Whether it is a prior-preservation image.
        seed: Of the run.
        epoch: From 1.
        batch_size: Most images in a batch; the last batch of a bucket may have fewer.
        repeats: How often an image of the subject is shown, for all of them or one a position.
    """
    subject = [i for i, is_prior in enumerate(prior) if not is_prior]
    times = [repeats] * len(hashes) if isinstance(repeats, int) else repeats
    shown = [(i, take) for i in subject for take in range(times[i])]
    shown += _turns([i for i, is_prior in enumerate(prior) if is_prior], hashes, len(shown), epoch)
    # Files with the same bytes are told apart by position, and are interchangeable.
    shown.sort(key=lambda item: (draw("order", seed, epoch, hashes[item[0]], item[1]), item[0]))
    open_batches: dict[Hashable, list[int]] = defaultdict(list)
    batches: list[Batch] = []
    for index, _ in shown:
        batch = open_batches[buckets[index]]
        batch.append(index)
        if len(batch) == batch_size:
            batches.append(tuple(batch))
            batch.clear()
    batches += [tuple(batch) for batch in open_batches.values() if batch]
    # Otherwise the short batches of rare buckets would always come last.
    keys = [draw("batch", seed, epoch, *(hashes[i] for i in batch)) for batch in batches]
    return [batches[i] for i in sorted(range(len(batches)), key=lambda i: (keys[i], i))]


def steps_in(batches: Sequence[Batch], accumulation: int) -> list[list[Batch]]:
    """Group batches into optimizer steps; the last step of an epoch may have fewer."""
    return [list(batches[i : i + accumulation]) for i in range(0, len(batches), accumulation)]


def hold_out(hashes: Sequence[str], share: float) -> frozenset[int]:
    """Choose the images that are held out for validation, by content alone.

    Args:
        hashes: Content hash of each candidate.
        share: How many of them, rounded; at least one unless 0, and at least one stays.

    Returns:
        Positions. Files with the same bytes are on the same side.
    """
    if share <= 0:
        return frozenset()
    distinct = sorted(set(hashes), key=lambda digest: draw("validation", digest))
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    chosen = set(distinct[:count])
    return frozenset(i for i, digest in enumerate(hashes) if digest in chosen)


def _turns(
    candidates: Sequence[int], hashes: Sequence[str], count: int, epoch: int
) -> list[tuple[int, int]]:
    """Take ``count`` of the candidates, going on where the epoch before stopped."""
    if not candidates:
        return []
    ordered = sorted(candidates, key=lambda i: (draw("prior", hashes[i]), i))
    first = (epoch - 1) * count
    return [(ordered[n % len(ordered)], n) for n in range(first, first + count)]
