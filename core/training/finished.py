"""A training that is finished is found again: its note, and what it must agree in.

A folder of work holds ``finished.json``: the identity of everything that decided the LoRA file,
the hash of that file, and what came of the training. Whoever asks for the same again is answered
from it, as long as the file is there whole.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import polars as pl

from .. import atomic
from ..damages import note_damage
from ..dataset.facts import DatasetFacts
from ..features import FeatureStore
from ..hashing import json_hash, sealed, unsealed
from ..imageset import content_hash
from ..json_text import parse
from ..plain_files import plain_text
from ..progress import Progress, silent
from .data.examples import Example, Skipped
from .data.images import TrainingImages, read_images
from .job import Checkpoint, LoraJob, LoraResult, Score
from .result import HISTORY, Callbacks, TrainingResult
from .settings import TrainingSettings
from .trainer import check_output, following, start_of, train_lora

log = logging.getLogger(__name__)

FINISHED = "finished.json"


def train_once(
    job: LoraJob,
    settings: TrainingSettings,
    *,
    further: Sequence[object] = (),
    store: FeatureStore | None = None,
    score: Score | None = None,
    prefer: Literal["validation", "evaluation"] = "validation",
    callbacks: Callbacks | None = None,
    progress: Progress = silent,
    resume: bool = True,
) -> LoraResult:
    """Train a LoRA as :func:`.trainer.train_lora`, unless that has been done.

    Then the model isn't loaded and nothing is written; :attr:`.LoraResult.known` says so.

    Args:
        job: From what, and where to.
        settings: How.
        further: What else decides the result: whatever ``score`` depends on.
        store: As for ``train_lora``.
        score: As for ``train_lora``.
        prefer: As for ``train_lora``.
        callbacks: As for ``train_lora``; told of nothing where nothing is done.
        progress: Watches.
        resume: Otherwise train anew, finished or not.

    Raises:
        CuratorError: As ``train_lora``.
    """
    from .denoisers.load import identity_of
    from .loop.processes import Processes

    check_output(job.output)
    images = read_images(job)
    settings = following(settings, start_of(job))

    def inputs() -> str:
        model = identity_of(
            job.base,
            device=job.device,
            dtype=job.dtype,
            variant=job.variant,
            config=job.base_config,
            precision=job.base_precision,
        )
        return _inputs(job, settings, images, model, [prefer, *further])

    if resume and (job.folder / FINISHED).is_file():
        known = finished_result(job, settings, images.facts, inputs())
        if known is not None:
            return known
    result = train_lora(
        job,
        settings,
        images=images,
        store=store,
        score=score,
        prefer=prefer,
        callbacks=callbacks,
        progress=progress,
        resume=resume,
    )
    # What has diverged is tried again.
    if result.training.stopped != "diverged" and Processes.current().is_first:
        note_finished(job, inputs(), result)
    return result


def course_key(model: str, examples: Sequence[Example], settings: TrainingSettings) -> str:
    """Return the identity of a training's course, whatever its length.

    Args:
        model: Identity of the frozen weights.
        examples: What is trained with, prior-preservation images included.
        settings: Those that may differ when a training goes on do not count.
    """
    from .loop.origin import course_options

    # What was trained before there were prior images keeps its key.
    images = sorted(f"{e.hash} {e.caption} {e.face}{_marks(e)}" for e in examples)
    return json_hash([model, images, course_options(settings)])[:16]


def _marks(example: Example) -> str:
    times = f" x{example.repeats}" if example.repeats != 1 else ""
    shown = "".join(f" {control.hash}" for control in example.controls)
    mask = f" mask {example.mask.hash}" if example.mask else ""
    return f"{' prior' if example.prior else ''}{times}{shown}{mask}"


def inputs_key(
    job: LoraJob, settings: TrainingSettings, course: str, further: Sequence[object]
) -> str:
    """Return the identity of everything that decides a LoRA file and its images."""
    samples = None if job.samples is None else asdict(job.samples)
    return json_hash(
        [course, settings.recorded(), samples, str(job.output), str(job.base), list(further)]
    )


def course_folder(home: Path, course: str, settings: TrainingSettings) -> Path:
    """Return the folder of a course: a shorter training than went before has one of its own.

    Args:
        home: Folder of the trainings of a LoRA.
        course: From :func:`course_key`.
        settings: Its length.
    """
    from .loop.run import STATE
    from .loop.state import StateMismatchError, load_tensors

    folder = home / course
    if (folder / STATE).is_file():
        try:
            _, facts = load_tensors(folder / STATE)
            epoch, step = int(facts["epoch"]), int(facts["step"])
        except (StateMismatchError, KeyError, TypeError, ValueError, ArithmeticError):
            return folder  # the trainer says what is wrong with it
        if settings.steps is None and epoch > settings.epochs:
            return home / f"{course}-{settings.epochs}-epochs"
        if settings.steps is not None and step > settings.steps:
            return home / f"{course}-{settings.steps}-steps"
    return folder


def finished_outcome(job: LoraJob, inputs: str) -> dict[str, Any] | None:
    """Return what was noted of a finished training; None unless its LoRA file is there whole."""
    found = _note(job, inputs)
    outcome = None if found is None else found.get("outcome")
    return outcome if isinstance(outcome, dict) else None


def finished_result(
    job: LoraJob, settings: TrainingSettings, facts: DatasetFacts, inputs: str
) -> LoraResult | None:
    """Return the result of a finished training; None unless every file of it is there.

    Args:
        job: From what, and where to.
        settings: How it was trained.
        facts: What the dataset says of itself.
        inputs: From :func:`inputs_key`.
    """
    noted = _note(job, inputs)
    try:
        return None if noted is None else _result_of(job, settings, facts, noted)
    except (KeyError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        note_damage("notes of trainings", job.folder / FINISHED, "the last part is made again")
        log.warning("%s is not whole (%s): it is made again.", job.folder / FINISHED, error)
        return None


def _result_of(
    job: LoraJob, settings: TrainingSettings, facts: DatasetFacts, noted: dict[str, Any]
) -> LoraResult | None:
    """Return what a note says; None unless every file of it is there."""
    outcome = noted["outcome"]
    checkpoints = {
        c["epoch"]: Checkpoint(c["epoch"], Path(c["file"]), c["validation_loss"], c["score"])
        for c in outcome["checkpoints"]
    }
    samples = None if outcome["samples"] is None else Path(outcome["samples"])
    gone, changed = [], []
    for file in _files_of(outcome):
        known = noted.get("files", {}).get(str(file))
        if not file.is_file():
            gone.append(file)
        elif known not in (None, content_hash(file)):
            changed.append(file)
    for path in gone:
        _say_again(path, "it is gone")
    for path in changed:
        note_damage("files of trainings", path, "made again", once=True)
        _say_again(path, "it is not as it was written")
    if gone or changed:
        return None
    scored = outcome["best_epoch_by_evaluation"]
    skipped = tuple(Skipped(Path(path), reason) for path, reason in noted.get("skipped", []))
    return LoraResult(
        file=job.output,
        kept=checkpoints[outcome["kept_epoch"]],
        by_validation=checkpoints[outcome["best_epoch"]],
        by_evaluation=None if scored is None else checkpoints[scored],
        checkpoints=tuple(checkpoints.values()),
        training=_training(job, settings, outcome, skipped, tuple(noted.get("held_out", []))),
        facts=facts,
        skipped=skipped,
        plot=Path(outcome["plot"]),
        samples=samples,
        warnings=tuple(outcome["warnings"]),
        adapted=outcome.get("adapted", ""),
        base=outcome.get("base", ""),
        known=True,
    )


def note_finished(job: LoraJob, inputs: str, result: LoraResult, **words: str) -> None:
    """Note that a training is finished, and what came of it.

    Args:
        job: Whose folder it is noted in.
        inputs: From :func:`inputs_key`.
        result: What came of it.
        words: What else :func:`finished_outcome` shall return.
    """
    outcome = result.to_mapping()
    noted = {
        "inputs": inputs,
        "file": content_hash(job.output),
        "files": {str(path): content_hash(path) for path in _files_of(outcome) if path.is_file()},
        "outcome": {**words, **outcome},
        "held_out": list(result.training.held_out),
        "skipped": [[str(skipped.path), skipped.reason] for skipped in result.skipped],
    }
    atomic.write_text(job.folder / FINISHED, json.dumps(sealed(noted), indent=1))


def _files_of(outcome: Mapping[str, Any]) -> list[Path]:
    """Return the files that a training has left beside the LoRA file."""
    plot, samples = Path(outcome["plot"]), outcome["samples"]
    drawn = [plot, plot.with_suffix(".png"), *([] if samples is None else [Path(samples)])]
    return [*(Path(one["file"]) for one in outcome["checkpoints"]), *drawn]


def read_notes(folder: Path) -> dict[str, Any] | None:
    """Return the notes of the training that ended in a work folder; None if none can be read."""
    path = folder / FINISHED
    try:
        found = parse(plain_text(path))
        if not isinstance(found, dict):
            raise ValueError("it is no table")
        found = unsealed(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        note_damage("notes of trainings", path, "taken for absent", once=True)
        log.warning("%s is damaged (%s), and counts as if it were not there.", path, error)
        return None
    return found


def _note(job: LoraJob, inputs: str) -> dict[str, Any] | None:
    found = read_notes(job.folder)
    if found is None or found.get("inputs") != inputs:
        return None
    try:
        digest = content_hash(job.output)
    except OSError as error:
        _say_again(job.output, error.strerror or str(error))
        return None
    if digest != found.get("file"):
        note_damage("LoRA files", job.output, "made again", once=True)
        _say_again(job.output, "it is not as it was written")
        return None
    return found


def _say_again(path: Path, why: str) -> None:
    log.warning("%s is made again from the training's last state: %s.", path, why)


def _training(
    job: LoraJob,
    settings: TrainingSettings,
    outcome: dict[str, Any],
    skipped: tuple[Skipped, ...],
    held_out: tuple[str, ...],
) -> TrainingResult:
    from .loop.run import BEST, LAST
    from .loop.validation import course_of

    history = pl.DataFrame(outcome["history"], schema=dict(HISTORY))
    loss = outcome["best_validation_loss"]
    return TrainingResult(
        history=history,
        stopped=outcome["stopped"],
        message=outcome["message"],
        steps=outcome["steps"],
        best_epoch=outcome["best_epoch"],
        best_loss=loss,
        best=job.folder / (LAST if loss is None else BEST),
        last=job.folder / LAST,
        convergence=course_of(history, settings),
        skipped=skipped,
        held_out=held_out,
        resolutions=outcome.get("resolutions", ""),
        memory=outcome.get("memory", ""),
    )


def _inputs(
    job: LoraJob,
    settings: TrainingSettings,
    images: TrainingImages,
    model: str,
    further: Sequence[object],
) -> str:
    """Return :func:`inputs_key` of a job that says everything itself."""
    course = course_key(model, [*images.examples, *images.prior], settings)
    held_out = images.validation
    return inputs_key(
        job,
        settings,
        course,
        [
            # Images and captions decide the file; in which version they lay does not.
            {key: value for key, value in asdict(images.facts).items() if key != "version"},
            None
            if held_out is None
            else [(e.hash, e.caption, e.face, *(c.hash for c in e.controls)) for e in held_out],
            None if job.start is None else content_hash(job.start),
            job.magnitudes,
            *further,
        ],
    )
