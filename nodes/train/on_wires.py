"""Training on the wires: the right folder, what is finished already, and the models' return."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from ...core.training import finished, train_lora
    from ..comfy.denoiser import WireDenoiser
    from .files import STORE, work_folder
    from .images import checked_images
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
    images = checked_images(job)
    course = finished.course_key(denoiser.identity, [*images.examples, *images.prior], settings)
    home = work_folder(job.output.stem)
    job = replace(job, work=finished.course_folder(home, course, settings))
    further = [images.facts.trigger, base.sampler, base.scheduler]
    inputs = finished.inputs_key(job, settings, course, further)
    noted = finished.finished_outcome(job, inputs)
    if noted is not None:
        log.info("%s is finished already: %s", job.output, noted["summary"])
        return str(noted["summary"])
    home.mkdir(parents=True, exist_ok=True)
    with FeatureStore(home / STORE) as store, denoiser:
        result = train_lora(
            job,
            settings,
            images=images,
            denoiser=denoiser,
            store=store,
            callbacks=view.callbacks(),
            progress=view,
        )
    summary = _summary(result)
    finished.note_finished(job, inputs, result, summary=summary)
    return summary


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
    lines += [result.adapted, result.base]
    lines += result.warnings
    if result.skipped:
        left = ", ".join(f"{s.path.name} ({s.reason})" for s in result.skipped)
        lines.append(f"Left out: {left}.")
    return "\n".join(lines)
