"""Every reader that is fuzzed, from the cheapest kind to the dearest."""

from __future__ import annotations

from tests.support.fuzzing import folders, images, records, texts, weights
from tests.support.fuzzing.targets import Target


def targets() -> list[Target]:
    """Return every reader that is fuzzed; a short test takes those that need no preparation."""
    return [
        *texts.targets(), *images.targets(), *weights.targets(), *records.targets(),
        *folders.targets(),
    ]  # fmt: skip
