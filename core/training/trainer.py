"""A LoRA file from a folder of images: load, train, write, plot, sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..counts import how_many, worded
from ..dataset.facts import DatasetFacts, without_trigger
from ..features import FeatureStore
from ..lora.families import recognised
from ..progress import Progress, silent
from .data.examples import Example
from .data.images import TrainingImages, read_images
from .job import SUFFIX, LoraJob, LoraResult, OutputNameError, Score
from .loop.processes import Processes
from .loop.sharding import sharded
from .outputs.card import jpeg_thumbnail
from .result import Callbacks, joined
from .settings import SettingsError, TrainingSettings

if TYPE_CHECKING:
    from ..lora.adapters import Adapters
    from ..lora.continuing import Origin
    from .denoisers.protocol import Denoiser, SamplingDenoiser
    from .outputs.watching import Plotter, Sampler
    from .outputs.writing import LoraWriter


def train_lora(
    job: LoraJob,
    settings: TrainingSettings,
    *,
    images: TrainingImages | None = None,
    denoiser: SamplingDenoiser | None = None,
    store: FeatureStore | None = None,
    score: Score | None = None,
    prefer: Literal["validation", "evaluation"] = "validation",
    callbacks: Callbacks | None = None,
    progress: Progress = silent,
    resume: bool = True,
) -> LoraResult:
    """Train a LoRA on a folder of images and write its file.

    Beside ``NAME.safetensors`` come ``NAME.loss.svg`` and ``.png`` (the course of the losses),
    ``NAME.samples.png`` (the same prompts and noise, a line an epoch), a file for each kept
    checkpoint, ``NAME-epoch0010.safetensors``, and ``NAME.work``, from which a run that was killed
    goes on to the same bits. The same job with the same settings writes the same LoRA file.

    Args:
        job: From what, and where to.
        settings: How.
        images: The job's images, if they have been read already.
        denoiser: The base model, if it is loaded already; its weights are left as they were.
        store: Where latents and text embeddings are kept; a file in ``NAME.work`` unless given.
        score: Evaluates the file of each kept checkpoint (``checkpoint_every``) and of the best.
        prefer: Whether the validation loss or the score chooses what the output holds.
        callbacks: Who else is told what.
        progress: Watches.
        resume: Go on with what is in ``NAME.work``; otherwise start anew.

    Raises:
        OutputNameError: The output's name does not end with ``.safetensors``.
        SpellingError: The model's layers have no names in the file's spelling.
        SettingsError: The model predicts no flow, and timesteps are wanted that only a flow has.
        NoCaptionsError: No image has a caption.
        TooFewImagesError: Too few images are usable.
        ModelNotFoundError: There is no such base model.
        UnknownModelError: It is of a kind that can't be trained.
        PickleRefusedError: Something is a pickle.
        CheckpointWriteError: The disk is full, or the folder can't be written to.
        CuratorError: As :func:`.loop.train`.

    Example:
        >>> job = LoraJob(Path("char1-dataset"), Path("char1.safetensors"), trigger="char1")
        >>> settings = TrainingSettings(rank=8, steps=400, validation_share=0.2)
        >>> result = train_lora(job, settings)  # minutes to hours  # doctest: +SKIP
        >>> job.folder.name  # from here a training that was killed goes on
        'char1.work'
    """
    from .denoisers.load import load
    from .loop.loop import train
    from .loop.timesteps import Timesteps
    from .outputs.watching import Plotter, Sampler
    from .outputs.writing import LoraWriter, names_of

    check_output(job.output)
    if images is None:
        images = read_images(job)
    examples, facts = images.examples, images.facts
    start = start_of(job)
    settings = following(settings, start)
    _check_weights(job, settings)
    if denoiser is None:
        denoiser = load(
            job.base,
            device=job.device,
            dtype=job.dtype,
            variant=job.variant,
            allow_pickle=job.allow_pickle,
            config=job.base_config,
            precision=job.base_precision,
        )
    # What the model can't do is told before hours of work.
    denoiser.file_names(settings.file_spelling)
    Timesteps.of(settings).check(denoiser.prediction)
    processes = Processes.current()
    with (
        placed_adapters(denoiser, settings, start) as adapters,
        _swap(denoiser, settings) as swap,
        sharded(denoiser.module(), settings.shard_base, processes) as shards,
    ):
        names_of(adapters, denoiser, settings.file_spelling)
        divided = settings.shard_base and processes.count > 1
        samples = None if divided else job.samples
        sampler = Sampler(replace(job, samples=samples), settings, denoiser, adapters, examples)
        plotter = Plotter(job)
        if not resume and processes.is_first:
            sampler.forget()
        trained = train(
            denoiser,
            adapters.named_parameters(),
            [*examples, *images.prior],
            settings,
            job.folder,
            store=store,
            validation=images.validation,
            decoded=images.decoded,
            callbacks=joined(callbacks, plotter.callbacks(), sampler.callbacks()),
            progress=progress,
            resume=resume,
            start=None if start is None else start.sha256,
        )
        result = replace(
            trained,
            memory=" ".join(filter(None, [denoiser.base_said, trained.memory, swap, shards])),
        )
        writer = LoraWriter(job, settings, denoiser, adapters, examples, facts, result, start)
        found = _finish(job, writer, sampler, plotter, score, prefer)
        return replace(
            found,
            skipped=(*images.skipped, *result.skipped),
            warnings=(
                *images.notes,
                *_warnings(examples, facts),
                *_without_text(settings, denoiser),
            ),
            adapted=_adapted(adapters, start),
            base=_base(job, settings, denoiser.architecture),
        )


def start_of(job: LoraJob) -> Origin | None:
    """Read the file that a job goes on from; None if it begins anew.

    Raises:
        PickleRefusedError: It is a pickle.
        CheckpointError: It is missing or broken, or holds no adapters.
    """
    from ..lora.continuing import Origin

    return None if job.start is None else Origin.of(job.start, allow_pickle=job.allow_pickle)


def following(settings: TrainingSettings, start: Origin | None) -> TrainingSettings:
    """Return settings with kind, rank and alpha of a file that is gone on from.

    Raises:
        CheckpointError: The file's layers are of several kinds.
    """
    return settings if start is None else settings.replace(**start.shape())


def _check_weights(job: LoraJob, settings: TrainingSettings) -> None:
    """Insist that the adapters find the weights that they need.

    Raises:
        SettingsError: The weights are elsewhere, or held otherwise.
    """
    if settings.block_swap and settings.dora:
        raise SettingsError(
            "block_swap does not go with dora, which needs every weight at hand. Switch one off."
        )
    if settings.shard_base and (
        settings.block_swap or settings.dora or job.base_precision != "as_is"
    ):
        raise SettingsError(
            "shard_base does not go with block_swap, dora or base_precision: each of them needs "
            "the weights in another way. Switch one of them off."
        )
    if job.base_precision == "as_is":
        return
    if settings.block_swap or settings.dora or settings.adapter != "lora":
        raise SettingsError(
            f"base_precision {job.base_precision} goes with plain LoRA adapters (adapter lora, no "
            "dora) and without block_swap, for they need the weights as they are. Leave it at "
            "as_is, or switch those off."
        )


@contextmanager
def _swap(denoiser: Denoiser, settings: TrainingSettings) -> Iterator[str]:
    """Swap blocks of a model that does not do so itself; say what is done.

    Raises:
        BlockSwapError: It has fewer blocks.
    """
    from .loop.block_swap import swapped

    if denoiser.swaps:
        yield denoiser.swaps
        return
    with swapped(denoiser.module(), settings.block_swap, denoiser.device) as said:
        yield said


@contextmanager
def placed_adapters(
    denoiser: Denoiser, settings: TrainingSettings, start: Origin | None = None
) -> Iterator[Adapters]:
    """Place adapters on a model, new ones or a file's, and take them away whatever happens."""
    from ..lora.adapters import inject

    modules = {"denoiser": denoiser.module(), **denoiser.text_modules()}
    if start is None:
        adapters = inject(modules, settings.adapters(), seed=settings.seed)
    else:
        adapters = start.adapters(
            modules, settings.adapters(), *denoiser.file_names.spellings.values()
        )
    for parameter in adapters.parameters("denoiser"):
        # The weights below may be elsewhere while they do not compute.
        parameter.data = parameter.data.to(denoiser.device)
    try:
        yield adapters
    finally:
        adapters.remove()


def _adapted(adapters: Adapters, start: Origin | None) -> str:
    """Say how many layers carry adapters, and where these come from."""
    text = str(adapters.placements["denoiser"])
    if start is None:
        return text
    own = adapters.settings
    return (
        f"Goes on from {start.name}, of whose layers, kind ({own.kind}), rank ({own.rank}) and "
        f"alpha ({own.alpha:g}) it is, whatever the settings say. {text}"
    )


def _finish(
    job: LoraJob,
    writer: LoraWriter,
    sampler: Sampler,
    plotter: Plotter,
    score: Score | None,
    prefer: str,
) -> LoraResult:
    """Write the files of a training whose weights are there."""
    result = writer.result
    first = Processes.current().is_first
    images = sampler.finish(result.best_epoch) if first else None
    thumbnail = b"" if images is None else jpeg_thumbnail(images[0])
    kept_weights = writer.kept_weights()
    alone = job.output if len(kept_weights) == 1 else None
    checkpoints = [
        writer.write(epoch, path, thumbnail, file=alone, write=first)
        for epoch, path in kept_weights
    ]
    if score is not None and first:
        checkpoints = [replace(c, score=float(score(c))) for c in checkpoints]
    by_validation = next(c for c in checkpoints if c.epoch == result.best_epoch)
    scored = [c for c in checkpoints if c.score is not None]
    by_evaluation = max(scored, key=lambda c: (c.score or 0.0, -c.epoch)) if scored else None
    kept = by_evaluation if prefer == "evaluation" and by_evaluation else by_validation
    if first:
        if kept.file != job.output:
            weights = dict(kept_weights)[kept.epoch]
            writer.write(kept.epoch, weights, thumbnail, file=job.output)
        plotter.finish(result)
    return LoraResult(
        file=job.output,
        kept=kept,
        by_validation=by_validation,
        by_evaluation=by_evaluation,
        checkpoints=tuple(checkpoints),
        training=result,
        facts=writer.facts,
        skipped=result.skipped,
        plot=job.beside(".loss.svg"),
        samples=None if images is None else job.beside(".samples.png"),
    )


def check_output(path: Path) -> None:
    """Check the name of a LoRA file.

    Raises:
        OutputNameError: It does not end as it must, or stands for a folder.
    """
    if path.suffix != SUFFIX or path.is_dir():
        raise OutputNameError(
            f"{path} is no name for a LoRA file: let it end with {SUFFIX}, as in "
            f"{path.with_suffix(SUFFIX) if path.name else 'char1' + SUFFIX}."
        )


def _base(job: LoraJob, settings: TrainingSettings, architecture: str) -> str:
    """Say what the file calls its base model, and how that is known."""
    if settings.base_model_version:
        return f"The file says that it is for {settings.base_model_version}, as was set."
    guess = recognised(architecture, job.base_names)
    if guess.family is None:
        return f"The file says that it is for {architecture}: {guess.source}."
    return (
        f"The file says that it is for {guess.family.title} ({guess.family.version}), "
        f"{guess.source}."
    )


def _warnings(examples: Sequence[Example], facts: DatasetFacts) -> list[str]:
    missing = without_trigger(examples, facts.trigger)
    if not missing:
        return []
    return [
        f"{missing:,} of {how_many(len(examples), 'caption')} {worded(missing, 'does', 'do')} not "
        f"have the trigger word '{facts.trigger}': in "
        f"{worded(missing, 'that image', 'those images')} nothing binds the subject to it."
    ]


def _without_text(settings: TrainingSettings, denoiser: Denoiser) -> list[str]:
    if not settings.train_text_encoder or denoiser.text_modules():
        return []
    return [
        f"train_text_encoder had no effect: what reads the text of {denoiser.architecture} takes "
        "no adapters (CLIP alone does), and captions were encoded in every step. Leave it out."
    ]
