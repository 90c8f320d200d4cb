"""Training on the wires: the right folder, what is finished already, and the models' return."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ...core.training.job import LoraJob, LoraResult
    from ...core.training.settings import TrainingSettings
    from .view import TrainingView

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """What is trained on.

    Attributes:
        model: A MODEL.
        clip: A CLIP.
        vae: A VAE.
        sampler: KSampler's name of the sampler of sample images.
        scheduler: KSampler's name of their scheduler.
    """

    model: Any
    clip: Any
    vae: Any
    sampler: str = "euler"
    scheduler: str = "normal"


def train_on_wires(job: LoraJob, settings: TrainingSettings, base: Base, view: TrainingView) -> str:
    """Train a LoRA and write its file, unless a training with the same inputs has; say how it went.

    Must run outside of inference mode. The models are afterwards as they were before, whatever
    happens.

    Args:
        job: From what, and where to; its work folder is chosen here.
        settings: How.
        base: What is trained on.
        view: Shows the training, and carries Cancel.

    Raises:
        PriorNamesCharacterError: Images that shall show others have captions that name the
            character.
        UntrainableError: The wires do not make a model that a LoRA can be trained on.
        CuratorError: As ``core.training.train_lora``.
    """
    from ...core.features import FeatureStore
    from ...core.training import train_lora
    from ..comfy.denoiser import WireDenoiser
    from .files import STORE, course_key, inputs_key, is_finished, note_finished, work_folder
    from .images import read_images
    from .settings import with_room_for

    denoiser = WireDenoiser(
        base.model,
        base.clip,
        base.vae,
        train_text_encoder=settings.train_text_encoder,
        sampler=base.sampler,
        scheduler=base.scheduler,
        on_image=view.image,
    )
    settings = with_room_for(settings, denoiser.pixel_step)
    examples, facts = read_images(job)
    course = course_key(denoiser.identity, examples, settings)
    home = work_folder(job.output.stem)
    job = replace(job, work=_folder(home, course, settings))
    inputs = inputs_key(job, settings, course, [facts.trigger, base.sampler, base.scheduler])
    noted = is_finished(job, inputs)
    if noted is not None:
        log.info("%s is finished already: %s", job.output, noted["summary"])
        return str(noted["summary"])
    home.mkdir(parents=True, exist_ok=True)
    with FeatureStore(home / STORE) as store, denoiser:
        result = train_lora(
            job,
            settings,
            denoiser=denoiser,
            store=store,
            callbacks=view.callbacks(),
            progress=view,
        )
    summary = _summary(result)
    note_finished(job, inputs, {"summary": summary, **result.to_mapping()})
    return summary


def _folder(home: Path, course: str, settings: TrainingSettings) -> Path:
    """Return a training's folder: a shorter one than went before does not go on with its state."""
    from ...core.training.loop.run import STATE
    from ...core.training.loop.state import StateMismatchError, load_tensors

    folder = home / course
    if (folder / STATE).is_file():
        try:
            _, facts = load_tensors(folder / STATE)
        except StateMismatchError:
            return folder  # the trainer says what is wrong with it
        if settings.steps is None and facts["epoch"] > settings.epochs:
            return home / f"{course}-{settings.epochs}-epochs"
        if settings.steps is not None and facts["step"] > settings.steps:
            return home / f"{course}-{settings.steps}-steps"
    return folder


def _summary(result: LoraResult) -> str:
    """Say in words what came of a training."""
    training = result.training
    lines = [f"{result.file.name}: {training.message}"]
    if training.best_loss is not None:
        first = training.history["validation_loss"][0]
        lines.append(
            f"Epoch {training.best_epoch} is kept: validation loss {training.best_loss:.4f}, "
            f"{first:.4f} before training."
        )
    if training.convergence_epoch is not None:
        lines.append(f"Converged at epoch {training.convergence_epoch}.")
    lines.append(result.adapted)
    lines += result.warnings
    if result.skipped:
        left = ", ".join(f"{s.path.name} ({s.reason})" for s in result.skipped)
        lines.append(f"Left out: {left}.")
    return "\n".join(lines)
