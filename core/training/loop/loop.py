"""The training loop: epochs, validation, checkpoints, and going on after a kill."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ...errors import CuratorError
from ...features import FeatureStore
from ...progress import Progress, silent
from ..data.cache import EncodedFeatures
from ..data.examples import Decoded, Example
from ..data.prepare import prepare
from ..denoisers.protocol import Denoiser
from ..result import Callbacks, EpochReport, TrainingResult
from ..settings import TrainingSettings
from .modes import checkpointed, gates_recomputed, reproducible, training_modes
from .processes import Processes
from .run import Diverged, TrainingRun
from .state import StateWriteError
from .timesteps import Timesteps
from .validation import validation_loss

logger = logging.getLogger(__name__)


class NothingToTrainError(CuratorError):
    """A training has no parameters: no adapter was placed."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing to train: no adapter was placed. Name layers in 'targets' that the model has."
        )


def train(
    denoiser: Denoiser,
    parameters: Mapping[str, nn.Parameter],
    examples: Sequence[Example],
    settings: TrainingSettings,
    folder: Path | str,
    *,
    store: FeatureStore | None = None,
    validation: Sequence[Example] | None = None,
    decoded: Decoded | None = None,
    callbacks: Callbacks | None = None,
    progress: Progress = silent,
    resume: bool = True,
    start: str | None = None,
) -> TrainingResult:
    """Train parameters of a model on images.

    On the same machine kind, versions and number of threads, the same arguments give the same
    weights to the bit on a CPU, however often the run was killed and started again (on CUDA: see
    ``settings.deterministic``). Where ``accelerate launch`` has started several processes they
    share every step; the first of them alone writes files and tells of the progress.

    Args:
        denoiser: The model; its adapters are in place.
        parameters: What is trained, by name.
        examples: Images of the subject and prior-preservation images.
        settings: Every option.
        folder: Where the run keeps its state and its weights: ``state.safetensors`` to go on from,
            ``best.safetensors``, ``last.safetensors``, ``epoch-0010.safetensors``.
        store: Where latents and text embeddings are kept; ``features.sqlite`` in the folder unless
            given.
        validation: Images to validate with, for runs that shall be compared; a share of the
            examples is held out unless given.
        decoded: Pixels of examples, by their hash, that have been decoded already (see
            :func:`.data.examples.read_examples`); let go when all is encoded.
        callbacks: Who is told what.
        progress: Told of every optimizer step. If it raises (Cancel), the state is saved first.
        resume: Go on from the folder's state where there is one; otherwise start anew.
        start: Identity of what the parameters' values come from, where they are not new: the state
            of a training from something else is not continued.

    Returns:
        The history, the best epoch, the epoch of convergence, and where the weights are. The
        parameters hold those of the best epoch.

    Raises:
        TooFewImagesError: Nothing to train on, or to validate with.
        StateMismatchError: The folder holds another run.
        StateWriteError: The disk is full; the last good checkpoint stays.
        DivergedError: The loss was no number before one epoch was over. Later than that the run
            stops and the result says so.
        MissingDependencyError: The optimizer's library is not installed.
        NothingToTrainError: No parameter is given.
        SettingsError: An option does not suit the model.
    """
    if not parameters:
        raise NothingToTrainError
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes = Processes.current()
    if not processes.is_first:
        callbacks, progress = None, silent
    with ExitStack() as stack:
        if store is None:
            store = stack.enter_context(FeatureStore(folder / "features.sqlite"))
        features = EncodedFeatures(denoiser, store)
        stack.enter_context(reproducible(settings.deterministic))
        text_modules = tuple(denoiser.text_modules().values())
        stack.enter_context(training_modes((denoiser.module(), *text_modules), False))
        with processes.first_alone():
            data = prepare(
                denoiser, examples, settings, features,
                validation=validation, decoded=decoded, progress=progress,
            )  # fmt: skip
        if decoded is not None:
            decoded.clear()
        if data.skipped:
            listed = [f"{left_out.path}: {left_out.reason}" for left_out in data.skipped]
            more = f"; and {len(listed) - 5} more" if len(listed) > 5 else ""
            logger.warning("Left out of the training: %s%s", "; ".join(listed[:5]), more)
        said = stack.enter_context(
            checkpointed(
                denoiser.module(), settings.gradient_checkpointing, settings.checkpointing_share
            )
        )
        stack.enter_context(gates_recomputed(denoiser.module()))
        run = TrainingRun(denoiser, parameters, data, settings, folder, processes, start)
        denoiser.offload_encoders()
        if resume:
            run.resume()
        processes.wait()  # no one may overwrite what another still reads
        _Loop(run, callbacks or Callbacks(), progress).execute()
        return replace(run.result(), memory=said)


class _Loop:
    """Drives a run to its end, and tells of it."""

    def __init__(self, run: TrainingRun, callbacks: Callbacks, progress: Progress) -> None:
        self._run, self._callbacks, self._progress = run, callbacks, progress
        self._settings = run.settings
        modules = [run.denoiser.module()]
        if self._settings.train_text_encoder:
            modules += run.denoiser.text_modules().values()
        self._modules = modules

    def execute(self) -> None:
        run = self._run
        self._progress.start("Training", run.total_steps)
        if run.step:
            self._progress.advance(run.step, "going on where it stopped")
        try:
            if not run.history:
                self._report(run.finish_epoch(self._validate()))
            elif run.position == 0:
                # A kill may have come between the saved state and what goes with it.
                self._keep(run.history[-1].epoch)
            while run.stopped is None:
                self._epoch()
        except Diverged as diverged:
            run.diverge(diverged)
        except StateWriteError:
            raise
        except BaseException:
            if run.is_whole:
                self._save_before_leaving()
            raise
        self._progress.finish()

    def _epoch(self) -> None:
        run, settings = self._run, self._settings
        steps = run.data.steps(run.epoch + 1, settings)
        with training_modes(self._modules):
            for batches in steps[run.position :]:
                if run.step == settings.steps:
                    break
                report = run.take_step(batches)
                if settings.save_every and run.step % settings.save_every == 0:
                    run.save()
                if self._callbacks.on_step:
                    self._callbacks.on_step(report)
                self._progress.advance(note=f"epoch {report.epoch}, loss {report.loss:.4f}")
        last = run.epoch + 1 == settings.epochs if settings.steps is None else run.is_over
        due = (run.epoch + 1) % settings.validate_every == 0 or last
        self._report(run.finish_epoch(self._validate() if due else None))

    def _validate(self) -> float | None:
        run, settings = self._run, self._settings
        if not run.data.validation:
            return None
        with self._as_kept():
            autocast = torch.autocast(
                run.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
            )
            with autocast:
                return validation_loss(
                    run.denoiser,
                    run.data.validation,
                    run.data.latents,
                    run.data.text,
                    timesteps=settings.validation_timesteps,
                    batch_size=max(4, settings.batch_size),
                    device=run.device,
                    processes=run.processes,
                    course=Timesteps.of(settings),
                    even=settings.shard_base,
                )

    def _report(self, report: EpochReport) -> None:
        run, callbacks = self._run, self._callbacks
        self._keep_checkpoint(report.epoch)
        if callbacks.on_epoch:
            callbacks.on_epoch(report)
        if callbacks.on_history:
            callbacks.on_history(tuple(run.history))
        self._sample(report.epoch)

    def _keep(self, epoch: int) -> None:
        """Write the files that go with an epoch's end: its checkpoint and its samples."""
        self._keep_checkpoint(epoch)
        self._sample(epoch)

    def _keep_checkpoint(self, epoch: int) -> None:
        every = self._settings.checkpoint_every
        if every and epoch and epoch % every == 0:
            path = self._run.keep_checkpoint()
            if self._callbacks.on_checkpoint:
                self._callbacks.on_checkpoint(epoch, path)

    def _sample(self, epoch: int) -> None:
        every = self._settings.sample_every
        if self._callbacks.on_sample and every and epoch % every == 0:
            with self._as_kept(), torch.random.fork_rng():
                self._callbacks.on_sample(epoch)

    @contextmanager
    def _as_kept(self) -> Iterator[None]:
        """Evaluation mode, with the weights that a checkpoint would have."""
        with ExitStack() as stack:
            stack.enter_context(training_modes(self._modules, False))
            stack.enter_context(self._run.kept_in_place())
            yield

    def _save_before_leaving(self) -> None:
        try:
            self._run.save()
        except CuratorError as error:  # what stopped the run is the greater news
            logger.warning("%s", error)
