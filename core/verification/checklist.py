"""The seed document's deployment checklist as data: its lines, and what was found of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from ..counts import how_many, worded

FORMAT = 1
"""Version of ``verification.json``."""

READY = "READY FOR PRODUCTION"
NOT_READY = "NOT READY FOR PRODUCTION"

LINES: Mapping[str, tuple[str, str]] = {
    "images": ("Data verification", "All images present"),
    "quality": ("Data verification", "All images above the quality threshold"),
    "faces": ("Data verification", "Face detection: every image passes"),
    "seeds": ("Data verification", "Seed distribution balanced"),
    "metadata": ("Data verification", "Metadata complete"),
    "training": ("LoRA training", "Training completed without errors"),
    "loss": ("LoRA training", "Loss converged (plateau observed)"),
    "file": ("LoRA training", "Model saved successfully"),
    "checkpoint": ("LoRA training", "Checkpoint chain intact"),
    "inference": ("LoRA training", "Can load and infer"),
    "samples": ("Quality validation", "Test samples generated"),
    "consistency": ("Quality validation", "Character consistency"),
    "artefacts": ("Quality validation", "Artefacts"),
    "comparison": ("Quality validation", "Quality compared to the training images"),
    "approval": ("Quality validation", "Human review approval"),
    "parameters": ("Documentation", "Generation parameters stored"),
    "mapping": ("Documentation", "Seed-to-image mapping archived"),
    "prompts": ("Documentation", "Prompts documented"),
    "hyperparameters": ("Documentation", "LoRA hyperparameters recorded"),
    "version": ("Documentation", "Dataset under version control"),
    "regenerate": ("Reproducibility", "Can regenerate exact images"),
    "seed_store": ("Reproducibility", "Seeds stored and versioned"),
    "recipe": ("Reproducibility", "All parameters documented"),
    "automated": ("Reproducibility", "Process fully automated"),
    "identical": ("Reproducibility", "Bit-identical reproduction verified"),
}
"""Group and title of each line of the checklist, by its key, in the document's order."""


class Status(str, Enum):
    """What became of a line."""

    HOLDS = "holds"
    FAILS = "fails"
    UNCHECKED = "not checked"
    """Something that the check needs was not given. Such a line withholds the verdict."""
    NOT_APPLICABLE = "not applicable"
    """There is nothing of the kind, as real photographs have no seeds. The verdict names it."""


@dataclass(frozen=True)
class Fault:
    """Why a line does not hold.

    Attributes:
        where: The file, or the part of it.
        what: What is wrong there.
        advice: What to do about it.
    """

    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.advice}"


@dataclass(frozen=True)
class Line:
    """One line of the checklist.

    Attributes:
        key: Its key in :data:`LINES`.
        status: What became of it.
        found: What was done and measured, or why nothing was.
        faults: Why it does not hold.
        figures: What was measured, for machines.
    """

    key: str
    status: Status
    found: str
    faults: tuple[Fault, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The group of the checklist that it belongs to."""
        return LINES[self.key][0]

    @property
    def title(self) -> str:
        """What it says."""
        return LINES[self.key][1]

    def as_mapping(self) -> dict[str, Any]:
        """Return the line as JSON knows it."""
        return {
            "key": self.key,
            "group": self.group,
            "title": self.title,
            "status": self.status.value,
            "found": self.found,
            "faults": [asdict(fault) for fault in self.faults],
            "figures": dict(self.figures),
        }


def judged(key: str, found: str, faults: Sequence[Fault] = (), **figures: Any) -> Line:
    """Return a line that holds if there is no fault."""
    status = Status.FAILS if faults else Status.HOLDS
    return Line(key, status, found, tuple(faults), figures)


def unchecked(key: str, reason: str, advice: str) -> Line:
    """Return a line that could not be checked, and what it takes to check it."""
    return Line(key, Status.UNCHECKED, reason, (Fault("not checked", reason, advice),))


def not_applicable(key: str, reason: str) -> Line:
    """Return a line that has nothing to be checked on."""
    return Line(key, Status.NOT_APPLICABLE, reason)


@dataclass(frozen=True)
class Readiness:
    """What the whole checklist came to.

    Attributes:
        dataset: Name of the dataset's folder.
        version: Which version of it was checked, 1 for the first export to its place.
        fingerprint: SHA-256 of its list of checksums as it was exported.
        lora: Name of the LoRA file that was checked; empty without one.
        lora_hash: SHA-256 of that file.
        time: When, in UTC, as ISO 8601.
        lines: Every line of the checklist, in its order.
    """

    dataset: str
    version: int
    fingerprint: str
    lora: str
    lora_hash: str
    time: str
    lines: tuple[Line, ...]

    @property
    def is_ready(self) -> bool:
        """Whether every line holds; one that has nothing to be checked on does not count."""
        return all(line.status in (Status.HOLDS, Status.NOT_APPLICABLE) for line in self.lines)

    def of(self, status: Status) -> tuple[Line, ...]:
        """Return the lines with a status."""
        return tuple(line for line in self.lines if line.status is status)

    @property
    def verdict(self) -> str:
        """Return the verdict in one line, with what it rests on."""
        holding = len(self.of(Status.HOLDS))
        parts = [
            f"{holding} of {how_many(len(self.lines), 'line')} {worded(holding, 'holds', 'hold')}"
        ]
        named = ((Status.FAILS, "fail"), (Status.UNCHECKED, "not checked"),
                 (Status.NOT_APPLICABLE, "not applicable"))  # fmt: skip
        for status, word in named:
            if count := len(self.of(status)):
                parts.append(f"{count} {word if count > 1 or word != 'fail' else 'fails'}")
        return f"{READY if self.is_ready else NOT_READY}: {', '.join(parts)}"

    def as_mapping(self) -> dict[str, Any]:
        """Return everything that was found, as JSON knows it."""
        return {
            "format": FORMAT,
            "verdict": READY if self.is_ready else NOT_READY,
            "ready": self.is_ready,
            "summary": self.verdict,
            "dataset": self.dataset,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "lora": self.lora,
            "lora_hash": self.lora_hash,
            "time": self.time,
            "lines": [line.as_mapping() for line in self.lines],
        }
