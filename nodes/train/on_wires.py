"""Training on the wires: the right folder, what is finished already, and the models' return."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...core.counts import how_many, worded

if TYPE_CHECKING:
    from ...core.training.data.images import TrainingImages
    from ...core.training.job import LoraJob, LoraResult
    from ...core.training.presets import Chosen
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
        references: IMAGE of control images: one for all training images, or one for each.
        encoding: How control images are told, one of ``nodes.comfy.references.ENCODINGS``.
        masks: MASK of what the loss counts: one for all training images, or one for each.
    """

    model: Any
    clip: Any
    vae: Any
    sampler: str = "euler"
    scheduler: str = "normal"
    references: Any = None
    encoding: str = "auto"
    masks: Any = None


def train_on_wires(job: LoraJob, chosen: Chosen, base: Base, view: TrainingView) -> str:
    """Train a LoRA and write its file, unless a training with the same inputs has; say how it went.

    Must run outside of inference mode. The models are afterwards as they were before, whatever
    happens.

    Args:
        job: From what, and where to; its work folder is chosen here.
        chosen: How, and where the settings come from.
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
    from ...core.training.trainer import following, start_of
    from ..comfy.denoiser import WireDenoiser
    from .files import MASKS, REFERENCES, STORE, work_folder
    from .images import checked_images, with_masks, with_references
    from .settings import with_room_for

    start = start_of(job)
    settings = following(chosen.settings, start)
    chosen = replace(chosen, settings=settings)
    denoiser = WireDenoiser(
        base.model,
        base.clip,
        base.vae,
        train_text_encoder=settings.train_text_encoder,
        sampler=base.sampler,
        scheduler=base.scheduler,
        on_image=view.image,
        references=base.encoding,
        block_swap=settings.block_swap,
    )
    settings = with_room_for(settings, denoiser.pixel_step)
    home = work_folder(job.output.stem)
    images = checked_images(job)
    if base.references is not None:
        images = with_references(images, base.references, home / REFERENCES)
    if base.masks is not None:
        images = with_masks(images, base.masks, home / MASKS)
    told = _told(base, images)
    begin = denoiser.identity if start is None else f"{denoiser.identity} {start.sha256}"
    course = finished.course_key(begin, [*images.examples, *images.prior], settings)
    job = replace(job, work=finished.course_folder(home, course, settings))
    further = [images.facts.trigger, base.sampler, base.scheduler]
    inputs = finished.inputs_key(job, settings, course, further)
    noted = finished.finished_outcome(job, inputs)
    if noted is not None:
        log.info("%s is finished already: %s", job.output, noted["summary"])
        return f"{noted['summary']}\n{chosen}"
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
    summary = "\n".join(filter(None, [_summary(result.with_choice(chosen)), told]))
    finished.note_finished(job, inputs, result, summary=summary)
    return f"{summary}\n{chosen}"


def _told(base: Base, images: TrainingImages) -> str:
    """Say how the model is told of control images; nothing without any.

    Raises:
        ReferencesError: It takes none.
    """
    from ..comfy import references

    counts = {len(example.controls) for example in images.examples} - {0}
    if not counts:
        return ""
    references.check(base.model.model)
    names = {references.encoding_of(base.model.model, n, base.encoding) for n in counts}
    with_one = sum(bool(example.controls) for example in images.examples)
    return (
        f"{with_one:,} of {how_many(len(images.examples), 'image')} "
        f"{worded(with_one, 'has', 'have')} control images, told as the node "
        f"{' and '.join(sorted(names))} tells them. Sample images are made without."
    )


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
    lines += filter(None, [result.resolutions, result.memory])
    lines += result.warnings
    if result.skipped:
        left = ", ".join(f"{s.path.name} ({s.reason})" for s in result.skipped)
        lines.append(f"Left out: {left}.")
    return "\n".join(lines)
