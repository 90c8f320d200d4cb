"""The images of a training: of the character, and of others of its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import CuratorError

if TYPE_CHECKING:
    from ...core.training.data.images import TrainingImages
    from ...core.training.job import LoraJob


class PriorNamesCharacterError(CuratorError):
    """Captions of others of the class have the character's trigger word."""

    def __init__(self, count: int, total: int, trigger: str) -> None:
        super().__init__(
            f"'prior' shall show others, but {count} of its {total} captions have the trigger word "
            f"'{trigger}'. Wire another dataset than the character's own; empty 'trigger' in the "
            "Character Plan that makes it, and let its captions name the class word alone."
        )


def checked_images(job: LoraJob) -> TrainingImages:
    """Read what is trained with, and check that others of the class are others.

    Args:
        job: Its dataset, and its prior-preservation images if it has any.

    Raises:
        PriorNamesCharacterError: Captions of the others have the trigger word.
        CuratorError: As ``core.training.read_examples``.
    """
    from ...core.dataset.trigger_words import is_named
    from ...core.training.data.images import read_images

    images = read_images(job)
    trigger = images.facts.trigger
    named = sum(is_named(example.caption, trigger) for example in images.prior)
    if named:
        raise PriorNamesCharacterError(named, len(images.prior), trigger)
    return images
