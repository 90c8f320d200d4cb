"""The images of a training: of the character, and of others of its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import CuratorError

if TYPE_CHECKING:
    from ...core.dataset.facts import DatasetFacts
    from ...core.training.data.examples import Example
    from ...core.training.job import LoraJob


class PriorNamesCharacterError(CuratorError):
    """Captions of others of the class have the character's trigger word."""

    def __init__(self, count: int, total: int, trigger: str) -> None:
        super().__init__(
            f"'prior' shall show others, but {count} of its {total} captions have the trigger word "
            f"'{trigger}'. Wire another dataset than the character's own; empty 'trigger' in the "
            "Character Plan that makes it, and let its captions name the class word alone."
        )


def read_images(job: LoraJob) -> tuple[list[Example], DatasetFacts]:
    """Read what is trained with.

    Args:
        job: Its dataset, and its prior-preservation images if it has any.

    Returns:
        The images of both, those of others marked as such, and the dataset's facts.

    Raises:
        PriorNamesCharacterError: Captions of the others have the trigger word.
        CuratorError: As ``core.training.read_examples``.
    """
    from ...core.dataset.facts import read_facts, without_trigger
    from ...core.training import as_prior, read_examples

    examples, _ = read_examples(job.dataset, caption=job.caption)
    facts = read_facts(job.dataset, examples, trigger=job.trigger)
    if job.prior is None:
        return examples, facts
    others, _ = read_examples(job.prior, caption=job.prior_caption)
    if facts.trigger.strip(", "):
        named = len(others) - without_trigger(others, facts.trigger)
        if named:
            raise PriorNamesCharacterError(named, len(others), facts.trigger)
    return [*examples, *as_prior(others)], facts
