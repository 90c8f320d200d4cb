"""The seed document's troubleshooting guide: what is wrong, which cause was measured, what to do.

An issue is diagnosed by its symptom in the LoRA's images. Its causes are looked for among the
document's own, each by a figure of its own, and only what was measured is named, with the advice
that the document gives for it as a command to run next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..counts import how_many, worded
from ..evaluation.advice import Finding
from ..evaluation.summary import Targets
from .commands import Retold
from .symptoms import LOW_QUALITY, Symptoms

SUBJECT = "Generated images don't look like the subject"
COLLAPSE = "Mode collapse"
QUALITY = "Poor quality output"

MEAN_QUALITY = 0.80
"""The document: below it, the average training image is suboptimal."""
QUALITY_LOSS = 0.05
"""Images worse than the training images by more than this are poor."""
STRANGERS = 0.15
"""Share of training faces below the identity threshold from which on somebody else is there."""
FEW_IMAGES = 50
"""With fewer images than this, the document's "add more training images" is advised."""
ALIKE = 0.10
"""Share of training images with a near-duplicate from which on the set repeats itself."""
SAME_SEEDS = 0.98
"""Similarity of images of one prompt with different seeds from which on they count as one."""
FEW_PASSES, MANY_PASSES = 20.0, 150.0
"""How often an image is seen: fewer may be too few; the document trains up to 150 epochs."""
RISEN = 0.02
"""By what share of its best a validation loss has risen when the training has overfitted."""
CLUSTERS = 8
"""The document: a diverse set has eight clusters."""

_COVERED = {
    SUBJECT: ("character consistency",),
    COLLAPSE: ("diversity (Vendi score)", "memorised share"),
    QUALITY: ("artefact share",),
}
# The figures of evaluation.advice that an issue explains better.


@dataclass(frozen=True)
class Cause:
    """Why an issue is there.

    Attributes:
        name: What it is.
        measured: The figures that say so.
        advice: What the document advises for it, with the command to run next.
    """

    name: str
    measured: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.measured}. {self.advice}"


@dataclass(frozen=True)
class Diagnosis:
    """One issue of the troubleshooting guide that a LoRA has.

    Attributes:
        issue: Its name in the guide.
        symptom: What was measured in the LoRA's images.
        causes: What was measured of its causes, the likeliest first; empty where none shows.
        otherwise: What the document advises further, to try where no cause shows.
    """

    issue: str
    symptom: str
    causes: tuple[Cause, ...]
    otherwise: str

    def sentences(self) -> list[str]:
        """Return the diagnosis for people, a sentence or two each."""
        told = [f"{self.issue}: {self.symptom}."]
        if not self.causes:
            return [*told, f"None of its usual causes was measured. {self.otherwise}"]
        return [*told, *(f"Cause: {cause}" for cause in self.causes)]

    def as_mapping(self) -> dict[str, Any]:
        """Return the diagnosis as JSON knows it."""
        return {
            "issue": self.issue,
            "symptom": self.symptom,
            "causes": [asdict(cause) for cause in self.causes],
            "otherwise": self.otherwise,
        }


def diagnose(
    symptoms: Symptoms,
    retold: Retold,
    targets: Targets = Targets(),  # noqa: B008
) -> tuple[Diagnosis, ...]:
    """Say which issues of the troubleshooting guide a LoRA has, and why.

    Args:
        symptoms: What was measured.
        retold: What was done, for the commands.
        targets: What figures of the LoRA's images should reach.

    Returns:
        In the guide's order; nothing for a healthy LoRA.
    """
    found = []
    if symptom := _does_not_look_alike(symptoms, targets):
        causes = tuple(_causes_of_another_face(symptoms, retold))
        more = "Name the character's features in the prompts, as the captions do: " + (
            retold.evaluate("--prompts", "PROMPTS.txt")
        )
        found.append(Diagnosis(SUBJECT, symptom, causes, more))
    if symptom := _is_collapsed(symptoms, targets):
        causes = tuple(_causes_of_collapse(symptoms, retold))
        more = "Slow the training down: " + _slower(symptoms, retold)
        found.append(Diagnosis(COLLAPSE, symptom, causes, more))
    if symptom := _is_poor(symptoms, targets):
        causes = tuple(_causes_of_poor_images(symptoms, retold))
        more = "Check the base model's files: character-curator verify DATASET --regenerate 3"
        found.append(Diagnosis(QUALITY, symptom, causes, more))
    return tuple(found)


def uncovered(findings: Sequence[Finding], diagnoses: Sequence[Diagnosis]) -> tuple[Finding, ...]:
    """Return the findings of an evaluation that no diagnosis explains."""
    covered = {figure for diagnosis in diagnoses for figure in _COVERED[diagnosis.issue]}
    return tuple(finding for finding in findings if finding.figure not in covered)


def _does_not_look_alike(symptoms: Symptoms, targets: Targets) -> str:
    lora = symptoms.lora
    if lora.consistency >= targets.consistency:
        return ""
    return (
        f"{lora.consistency:.0%} of {how_many(lora.images, 'image')} "
        f"{worded(lora.images, 'is', 'are')} the character, wanted are "
        f"{targets.consistency:.0%} (mean identity {_number(lora.identity)})"
    )


def _is_collapsed(symptoms: Symptoms, targets: Targets) -> str:
    lora, parts = symptoms.lora, []
    if lora.vendi < targets.diversity * lora.base_vendi:
        parts.append(
            f"{how_many(lora.images, 'image is', 'images are')} worth {lora.vendi:.1f} different "
            f"ones (Vendi score), the base model's {lora.base_vendi:.1f}"
        )
    if lora.memorised > targets.memorised:
        parts.append(
            f"{lora.memorised:.0%} repeat a training image, allowed are {targets.memorised:.0%}"
        )
    if lora.seeds >= SAME_SEEDS:
        parts.append(f"images of one prompt with different seeds are {lora.seeds:.3f} similar")
    return "; ".join(parts)


def _is_poor(symptoms: Symptoms, targets: Targets) -> str:
    lora, given, parts = symptoms.lora, symptoms.training_set.quality, []
    if lora.artefacts > targets.artefacts:
        parts.append(
            f"{lora.artefacts:.0%} of {how_many(lora.images, 'image')} "
            f"{worded(lora.images, 'fails', 'fail')} the checks of faces or quality, "
            f"allowed are {targets.artefacts:.0%}"
        )
    if lora.quality < given - QUALITY_LOSS:
        parts.append(f"mean quality {lora.quality:.2f} beside {given:.2f} of the training images")
    return "; ".join(parts)


def _causes_of_another_face(symptoms: Symptoms, retold: Retold) -> Iterator[Cause]:
    given, making = symptoms.training_set, symptoms.making
    if given.strangers > STRANGERS:
        yield Cause(
            "the training images show more than one person",
            f"{given.strangers:.0%} of their faces are below the character's identity threshold",
            "Keep one person: " + retold.curate(faces__minimum_identity=0.5),
        )
    if given.low:
        yield Cause(
            "training images of low quality",
            f"{given.low:,} of {given.images:,} {worded(given.low, 'is', 'are')} below "
            f"{LOW_QUALITY:g}, {given.quality:.2f} on average",
            "Curate with that threshold: " + retold.curate(quality__minimum=LOW_QUALITY),
        )
    longer = None if making.steps is None else 2 * making.steps
    falling = making.still_falling is True
    few = making.passes is not None and making.passes < FEW_PASSES
    if longer and (falling or few):
        shown = f"{how_many(round(making.passes), 'pass')} over the images" if making.passes else ""
        measured = "the validation loss was still falling" if falling else f"only {shown}"
        yield Cause(
            "too little training",
            f"{measured} after {how_many(making.steps or 0, 'step')}",
            "Train longer: " + retold.train("longer", steps=longer),
        )
    if making.rank is not None and making.rank < 16:
        yield Cause(
            "a low rank",
            f"rank {making.rank}",
            "Take 16: " + retold.train("rank16", rank=16, alpha=16.0),
        )
    if given.images < FEW_IMAGES:
        yield _few_images(symptoms, retold)
    if _has_overfitted(symptoms):
        yield _overfitting(symptoms, retold)


def _causes_of_collapse(symptoms: Symptoms, retold: Retold) -> Iterator[Cause]:
    given, lora = symptoms.training_set, symptoms.lora
    repeats = given.alike > ALIKE
    poor = not math.isnan(lora.base_vendi) and given.vendi < 0.5 * lora.base_vendi
    if repeats or poor:
        clusters = f", {how_many(given.clusters, 'cluster')}" if given.clusters else ""
        yield Cause(
            "the training images lack diversity",
            f"{how_many(given.images, 'image is', 'images are')} worth {given.vendi:.1f} different "
            f"ones{clusters}, {given.alike:.0%} have a near-duplicate",
            f"Balance them over {CLUSTERS} clusters of different scenes: "
            + retold.curate(clusters__count=CLUSTERS),
        )
    if given.captions and given.captions < given.images / 10:
        yield Cause(
            "captions that repeat themselves",
            f"{how_many(given.captions, 'different caption')} for "
            f"{how_many(given.images, 'image')}",
            "Ask for more different scenes, and let every caption name its own.",
        )
    if given.images < FEW_IMAGES and not repeats:
        yield _few_images(symptoms, retold)
    if (lora.memorised > 0 and not repeats) or _has_overfitted(symptoms):
        yield _overfitting(symptoms, retold)


def _causes_of_poor_images(symptoms: Symptoms, retold: Retold) -> Iterator[Cause]:
    given, lora, making = symptoms.training_set, symptoms.lora, symptoms.making
    if given.quality < MEAN_QUALITY:
        yield Cause(
            "training images of low quality",
            f"{given.quality:.2f} on average, below {MEAN_QUALITY:g}",
            "Curate with a stricter threshold: " + retold.curate(quality__minimum=MEAN_QUALITY),
        )
    base_poor = lora.base_artefacts > lora.artefacts / 2
    if base_poor:
        yield Cause(
            "the base model draws poor images itself",
            f"{lora.base_artefacts:.0%} of its own fail, with the same prompts and sampling",
            "Check that its files are whole (character-curator verify DATASET --regenerate 3), or "
            "take a better base model.",
        )
    steps, guidance = making.sampling_steps, making.guidance
    if steps is not None and steps < 50 and (base_poor or given.quality >= MEAN_QUALITY):
        yield Cause(
            "few sampling steps",
            how_many(steps, "step"),
            "Sample longer: " + retold.evaluate("--steps", str(75 if steps >= 30 else 50)),
        )
    if guidance is not None and 1 < guidance < 7.5 and base_poor:
        yield Cause(
            "a low guidance scale",
            f"guidance {guidance:g}",
            "Try 7.5 to 10: " + retold.evaluate("--guidance", "7.5"),
        )
    if making.dtype in ("float16", "bfloat16"):
        yield Cause(
            "half precision, which little GPU memory asks for",
            f"{making.dtype} weights",
            "Compare with the full one: " + retold.evaluate("--dtype", "float32"),
        )


def _has_overfitted(symptoms: Symptoms) -> bool:
    making = symptoms.making
    risen = making.rising is not None and making.rising > RISEN
    return risen or (making.passes is not None and making.passes >= MANY_PASSES)


def _overfitting(symptoms: Symptoms, retold: Retold) -> Cause:
    making, lora = symptoms.making, symptoms.lora
    measured = [f"rank {making.rank}"] if making.rank is not None else []
    measured += [f"learning rate {making.learning_rate:g}"] if making.learning_rate else []
    measured += (
        [f"{how_many(round(making.passes), 'pass')} over the images"] if making.passes else []
    )
    if making.rising is not None and making.rising > RISEN:
        measured.append(f"validation loss {making.rising:.0%} above its best in the end")
    measured.append(f"{lora.memorised:.0%} of the images repeat a training image")
    return Cause("overfitting", ", ".join(measured), "Learn less: " + _slower(symptoms, retold))


def _few_images(symptoms: Symptoms, retold: Retold) -> Cause:
    return Cause(
        "few training images",
        how_many(symptoms.training_set.images, "image"),
        "Add more (the document: 100 and more): " + retold.curate(selection__total=100),
    )


def _slower(symptoms: Symptoms, retold: Retold) -> str:
    making = symptoms.making
    changes: dict[str, Any] = {}
    if making.rank is not None and making.rank > 1:
        changes["rank"] = max(1, making.rank // 2)
        changes["alpha"] = float(changes["rank"])
    if making.learning_rate:
        changes["learning_rate"] = making.learning_rate / 2
    if not making.dropout:
        changes["dropout"] = 0.05
    return retold.train("slower", **changes)


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f}"
