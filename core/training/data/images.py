"""The images of one training: of the subject, of others of its class, and to validate with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...counts import worded
from ...dataset.facts import DatasetFacts, read_facts, with_concepts
from .examples import Decoded, Example, Skipped, read_examples

if TYPE_CHECKING:
    from ..job import LoraJob, PriorImages


@dataclass(frozen=True)
class TrainingImages:
    """What a job's folders hold; whoever has read it hands it on.

    Attributes:
        examples: Images of the subject.
        facts: What their dataset says of itself.
        prior: Prior-preservation images.
        validation: Images to validate with; ``None`` where a share of the examples is held out.
        skipped: What was left out, with reasons.
        decoded: Pixels that wait to be encoded; the training empties it.
        notes: What is to be said of how the folders were read.
    """

    examples: tuple[Example, ...]
    facts: DatasetFacts
    prior: tuple[Example, ...] = ()
    validation: tuple[Example, ...] | None = None
    skipped: tuple[Skipped, ...] = ()
    decoded: Decoded = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()


def read_prior(
    images: Path | PriorImages, caption: str | None = None, decoded: Decoded | None = None
) -> tuple[list[Example], list[Skipped]]:
    """Read prior-preservation images: all of a folder, or those that were made for a training.

    Args:
        images: The folder, or what was made.
        caption: For images that have none.
        decoded: As for :func:`.examples.read_examples`.

    Raises:
        CuratorError: As :func:`.examples.read_examples`.
    """
    folder, names = (images, None) if isinstance(images, Path) else (images.folder, images.names)
    return read_examples(folder, caption=caption, prior=True, decoded=decoded, only=names)


def read_images(job: LoraJob) -> TrainingImages:
    """Read every image of a job once.

    Raises:
        CuratorError: As :func:`.examples.read_examples`, of any of the folders.
    """
    decoded: Decoded = {}
    notes: list[str] = []
    examples, skipped = read_examples(
        job.dataset,
        caption=job.caption,
        decoded=decoded,
        notes=notes,
        controls=job.control_images,
        masks=job.masks,
    )
    facts = read_facts(job.dataset, examples, trigger=job.trigger)
    if not facts.trigger and job.trigger is None:
        facts = with_concepts(facts, [e.path.relative_to(job.dataset) for e in examples])
    if facts.version is not None and facts.version.altered:
        notes.append(
            f"Of version {facts.version.number} of the dataset, {facts.version.altered:,} of the "
            f"images or captions {worded(facts.version.altered, 'is', 'are')} not as exported; it "
            "is trained on as it is."
        )
    prior: list[Example] = []
    validation = None
    if job.prior is not None:
        prior, others = read_prior(job.prior, job.prior_caption, decoded)
        skipped += others
    if job.validation is not None:
        controls = job.control_images
        if controls is not None and controls.resolve() == job.dataset.resolve():
            controls = job.validation  # pairs, each beside its image
        held_out, others = read_examples(
            job.validation, caption=job.caption, decoded=decoded, controls=controls
        )
        validation = tuple(held_out)
        skipped += others
    return TrainingImages(
        tuple(examples), facts, tuple(prior), validation, tuple(skipped), decoded, tuple(notes)
    )
