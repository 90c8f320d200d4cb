"""What a LoRA is made from, and what comes of it, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..dataset.facts import DatasetFacts
from ..errors import CuratorError
from .data.examples import Skipped
from .outputs.samples import SampleSettings
from .presets import Chosen, caption_note
from .result import TrainingResult
from .settings import BasePrecision

SUFFIX = ".safetensors"


class OutputNameError(CuratorError):
    """The name of a LoRA file does not end as it must, or stands for a folder."""


@dataclass(frozen=True)
class PriorImages:
    """Prior-preservation images that were made for a training: these, whatever else lies there.

    Attributes:
        folder: Where they are.
        names: Their files.
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True)
class LoraJob:
    """What a LoRA is made from, and where it goes.

    Attributes:
        dataset: An exported dataset, or any folder of images with captions beside them.
        output: The LoRA file; ends with ``.safetensors``.
        base: ``miniature``, the folder of a diffusers pipeline, a single ``.safetensors`` file, or
            an id of the Hugging Face hub.
        work: Folder of the resumable state and the caches; ``NAME.work`` beside the output.
        caption: For images that have none.
        trigger: The trigger word; what the dataset says unless given.
        validation: Folder of images to validate with, instead of a share of the dataset.
        prior: Folder of prior-preservation images, or some of those that lie in a folder.
        prior_caption: For those that have none; the class prompt.
        start: A LoRA file that the training goes on from: kind, rank, alpha and layers are the
            file's, whatever the settings say.
        samples: What is sampled, before, while (``sample_every``) and after it trains; ``None``
            samples nothing.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        dtype: Number type of the frozen weights: ``auto``, ``float32``, ``float16``, ``bfloat16``.
        variant: The variant of the weights to load, such as ``fp16``.
        magnitudes: How a DoRA file is written, see :func:`.lora.file.tensors_of`.
        allow_pickle: Also load base models and LoRA files in Python's pickle format.
        base_says: What the base model's own file says it is, by where it says so; for the header.
        control_images: Folder of control images, which an edit model is shown with the captions;
            see :func:`.data.controls.control_paths`.
        masks: Masks that weigh the loss: ``beside`` the images (or their transparency), or a folder
            that holds them under the images' names; none unless given.
        base_config: Where a single file's configurations and tokenizers come from: a folder of
            diffusers or an id of the hub; what diffusers takes for the file unless given.
        base_precision: What the frozen weights of the base model's blocks are held in: ``as_is``,
            ``nf4`` or ``int8``.
    """

    dataset: Path
    output: Path
    base: str | Path = "miniature"
    work: Path | None = None
    caption: str | None = None
    trigger: str | None = None
    validation: Path | None = None
    prior: Path | PriorImages | None = None
    prior_caption: str | None = None
    start: Path | None = None
    samples: SampleSettings | None = field(default_factory=SampleSettings)
    device: str = "auto"
    dtype: str = "auto"
    variant: str | None = None
    magnitudes: Literal["dora_scale", "folded"] = "dora_scale"
    allow_pickle: bool = False
    base_says: Mapping[str, str] = field(default_factory=dict)
    control_images: Path | None = None
    base_config: str | Path | None = None
    base_precision: BasePrecision = "as_is"
    masks: Path | str | None = None

    @property
    def base_names(self) -> dict[str, str]:
        """What the base model is called, by where, as :func:`.families.recognised` takes it."""
        name = Path(self.base).name if Path(self.base).expanduser().exists() else str(self.base)
        return {"the base model's name": name, **self.base_says}

    @property
    def folder(self) -> Path:
        """Where the state and the caches are."""
        return self.work or self.output.with_name(f"{self.output.stem}.work")

    def beside(self, end: str) -> Path:
        """Return the path of a file that goes with the output: ``NAME`` and another end."""
        return self.output.with_name(self.output.stem + end)


@dataclass(frozen=True)
class Checkpoint:
    """A LoRA file of one epoch.

    Attributes:
        epoch: Its epoch.
        file: Its file.
        validation_loss: Of its weights, if measured.
        score: What the evaluation gave it, if there was one; higher is better.
    """

    epoch: int
    file: Path
    validation_loss: float | None
    score: float | None = None


Score = Callable[[Checkpoint], float]
"""Evaluates the LoRA file of a checkpoint; higher is better."""


@dataclass(frozen=True)
class LoraResult:
    """A finished training.

    Attributes:
        file: The LoRA file.
        kept: The checkpoint that it holds.
        by_validation: The checkpoint with the lowest validation loss (without one, the last).
        by_evaluation: The checkpoint with the highest score; ``None`` without a score.
        checkpoints: All that were kept, in the order of their epochs.
        training: What the loop has to say.
        facts: What the dataset says of itself.
        skipped: Images that were left out, with reasons.
        plot: The loss over the epochs, as SVG; the PNG is beside it.
        samples: The sheet of sample images, if any were made.
        warnings: What is likely a mistake, in words.
        adapted: How many layers carry adapters, and which kinds do not, in words.
        base: What the file says its base model is, and how that is known, in words.
        known: Whether it had been finished before, and nothing was done now.
        chosen: Where the settings come from, if that is known.
    """

    file: Path
    kept: Checkpoint
    by_validation: Checkpoint
    by_evaluation: Checkpoint | None
    checkpoints: tuple[Checkpoint, ...]
    training: TrainingResult
    facts: DatasetFacts
    skipped: tuple[Skipped, ...]
    plot: Path
    samples: Path | None
    warnings: tuple[str, ...] = ()
    adapted: str = ""
    base: str = ""
    known: bool = False
    chosen: Chosen | None = None

    def with_choice(self, chosen: Chosen) -> LoraResult:
        """Return the result with the choice of its settings, and what follows from it."""
        note = caption_note(self.facts.captions or (), chosen)
        warnings = (*self.warnings, note) if note else self.warnings
        return replace(self, chosen=chosen, warnings=warnings)

    @property
    def memory(self) -> str:
        """What was done to save memory, in words."""
        return self.training.memory

    @property
    def resolutions(self) -> str:
        """How many images were trained at each resolution, in words, where there are several."""
        return self.training.resolutions

    def to_mapping(self) -> dict[str, Any]:
        """Return the outcome as JSON knows values."""
        training = self.training
        course = training.convergence
        return {
            "file": str(self.file),
            "trigger": self.facts.trigger,
            "dataset_fingerprint": self.facts.fingerprint,
            "stopped": training.stopped,
            "message": training.message,
            "steps": training.steps,
            "epochs": training.history["epoch"].to_list()[-1],
            "best_epoch": self.by_validation.epoch,
            "best_validation_loss": self.by_validation.validation_loss,
            "best_epoch_by_evaluation": self.by_evaluation and self.by_evaluation.epoch,
            "best_score": self.by_evaluation and self.by_evaluation.score,
            "kept_epoch": self.kept.epoch,
            "convergence_epoch": training.convergence_epoch,
            "plateau": course and course.plateau,
            "settled": course and course.settled,
            "checkpoints": [
                {"epoch": c.epoch, "file": str(c.file), "validation_loss": c.validation_loss,
                 "score": c.score}
                for c in self.checkpoints
            ],
            "held_out": len(training.held_out),
            "skipped": [{"file": s.path.name, "reason": s.reason} for s in self.skipped],
            "warnings": list(self.warnings),
            "adapted": self.adapted,
            "resolutions": self.resolutions,
            "memory": self.memory,
            "base": self.base,
            "preset": None if self.chosen is None else self.chosen.to_mapping(),
            "plot": str(self.plot),
            "samples": None if self.samples is None else str(self.samples),
            "history": training.history.to_dicts(),
        }  # fmt: skip
