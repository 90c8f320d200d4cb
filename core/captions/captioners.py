"""What writes captions: what it is to do, and the errors of those that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import CuratorError
from ..hashing import json_hash

if TYPE_CHECKING:
    from ..analysis.decoding import Pixels

TAGS_FILE = "selected_tags.csv"
"""The list of a tagger's tags, beside its model."""


class CaptionerNotFoundError(CuratorError):
    """A model that writes captions is neither here nor to be had."""


class CaptionerError(CuratorError):
    """A model that writes captions cannot be used."""


class Captioner(Protocol):
    """A model that says of images what they show.

    What it finds is kept by the images' content and by :attr:`fingerprint`; how a caption is made
    of it (thresholds, order) may change without asking the model again.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def fingerprint(self) -> str:
        """What decides what it finds: weights and what it is asked."""

    @property
    def batch(self) -> int:
        """How many images it takes at once."""

    @property
    def stops(self) -> tuple[type[BaseException], ...]:
        """Errors that are no image's fault, and end the work, as a person's Cancel does."""

    def find(self, images: Sequence[Pixels]) -> list[bytes]:
        """Look at images (BGR, 8 bits); return what was found in each."""

    def caption(self, found: bytes) -> str:
        """Make a caption, in one line, of what was found."""

    def remark(self, found: bytes) -> str:
        """Return what is to be said of how it was found, if anything."""


def files_fingerprint(files: Sequence[Path]) -> str:
    """Hash a model's files; those of before are remembered by path, size and time of change."""
    from ..generation.models import file_hash

    return json_hash([[file.name, file_hash(file)] for file in sorted(files)])
