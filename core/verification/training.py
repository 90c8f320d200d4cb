"""The second group of the checklist: the training, its losses, its file and the chain behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import polars as pl

from ..counts import how_many, plural
from ..errors import CuratorError
from ..imageset import content_hash
from ..lora.file import CheckpointError, LoraFile, read
from ..lora.header import LoraOrigin, read_header, read_origin, tensors_hash
from ..training.finished import FINISHED, read_notes
from ..training.loop.state import StateMismatchError, load_tensors
from ..training.loop.validation import convergence, course_of
from ..training.result import HISTORY
from ..training.settings import SettingsError, TrainingSettings
from .checklist import Fault, Line, judged, unchecked
from .evidence import Evidence
from .trained_dataset import TRAIN, check_dataset

if TYPE_CHECKING:
    from ..training.loop.validation import Convergence

_NOTES = "Keep NAME.work beside the LoRA file, or say where it is: --work FOLDER."
GIVE = "Name the LoRA file: --lora FILE (in ComfyUI: lora_name)."
NO_LORA = "no LoRA file was given"
KEYS = ("training", "loss", "file", "checkpoint", "hyperparameters")

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Trained:
    """A LoRA file and what is known of its training.

    Attributes:
        path: The file.
        hash: SHA-256 of its bytes.
        content: Its tensors and metadata; ``None`` if it can't be read.
        problem: Why it can't be read; empty if it can.
        origin: What its metadata say of its training.
        notes: What the training noted when it was finished; ``None`` if the notes are not here.
        work: The folder that they lie in.
    """

    path: Path
    hash: str
    content: LoraFile | None
    problem: str
    origin: LoraOrigin
    notes: Mapping[str, Any] | None
    work: Path | None

    @property
    def outcome(self) -> Mapping[str, Any]:
        """What came of the training, as it noted it; empty without notes."""
        return (self.notes or {}).get("outcome", {})

    def noted(self, key: str) -> list[Mapping[str, Any]]:
        """Return the rows of a list in the notes, without what is no row."""
        found = self.outcome.get(key)
        return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []

    @property
    def trigger(self) -> str:
        """The words that call the subject; empty if the file does not say."""
        metadata = self.content.metadata if self.content is not None else {}
        return read_header(metadata).trigger_phrase


def read_trained(path: Path, work: Path | None = None) -> Trained:
    """Read a LoRA file, and the notes of its training.

    Args:
        path: The file.
        work: Folder of the notes, or one above it; ``NAME.work`` beside the file unless given.
    """
    content, problem, digest = None, "", ""
    try:
        digest = content_hash(path)
        content = read(path)
    except OSError as error:
        problem = f"it can't be read: {error.strerror or error}"
    except CheckpointError as error:
        problem = str(error)
    notes, folder = None, None
    for place in _places(path, work):
        found = read_notes(place)
        if found is not None and isinstance(found.get("outcome"), dict):
            notes, folder = found, place
            if found.get("file") == digest:
                break
    origin = read_origin(content.metadata if content is not None else {})
    return Trained(path, digest, content, problem, origin, notes, folder)


def check_training(trained: Trained) -> Line:
    """Check that the training of exactly this file ended, and not because it diverged."""
    if trained.notes is None:
        return unchecked("training", "the notes of its training are not here", _NOTES)
    outcome, faults = trained.outcome, []
    if not _is_noted(trained):
        faults.append(
            Fault(
                trained.path.name,
                "it is not the file that the training wrote: it was changed, or another training "
                "wrote over it",
                TRAIN,
            )
        )
    if outcome.get("stopped") == "diverged":
        faults.append(Fault(FINISHED, str(outcome.get("message")), TRAIN))
    faults += [
        Fault(
            str(entry.get("file")), f"it was left out: {entry.get('reason')}", "Repair the image."
        )
        for entry in trained.noted("skipped")
    ]
    found = (
        f"{outcome.get('message') or 'the training ended'} "
        f"{_stated(outcome.get('steps'), 'step')}, {_stated(outcome.get('epochs'), 'epoch')}"
    )
    return judged("training", found, faults, stopped=outcome.get("stopped"))


def check_loss(trained: Trained) -> Line:
    """Check that the loss has come to a plateau.

    The loss is the validation loss on fixed noise, smoothed by a median over three. It has come to
    a plateau if it fell below its start and has made all but the plateau tolerance (5 %) of that
    way by an epoch that at least a fifth of the training follows; or if the training itself stopped
    because nothing better came. Without validation it is the training loss of the epochs, by the
    same rule.
    """
    if trained.notes is None:
        return unchecked("loss", "the notes of its training are not here", _NOTES)
    outcome = trained.outcome
    try:
        history = pl.DataFrame(outcome["history"], schema=dict(HISTORY))
    except (KeyError, TypeError, ValueError, ArithmeticError, pl.exceptions.PolarsError) as error:
        fault = Fault(FINISHED, f"it has no history of the losses ({error})", TRAIN)
        return judged("loss", "there is no history of the losses", [fault])
    which, course = _course(history, trained)
    if course is None:
        fault = Fault(
            trained.path.name,
            f"the {which} never fell below where it started",
            "Train with a higher learning rate, or check that captions and images belong together.",
        )
        return judged("loss", f"the {which} did not fall", [fault])
    ended = outcome.get("stopped") == "plateau"
    found = (
        f"{which}: {course.start:.4f} at the start, {course.plateau:.4f} in the end, within 5 % "
        f"of the way from epoch {course.epoch} on"
        + (", where the training stopped by itself" if ended else f" of {_last(history)}")
    )
    faults = []
    if not (course.settled or ended):
        faults.append(
            Fault(
                trained.path.name,
                f"the {which} was still falling when the training ended",
                "Train for more steps (the same command with a larger --steps or --epochs goes on "
                "where it was).",
            )
        )
    return judged(
        "loss", found, faults, start=course.start, plateau=course.plateau, epoch=course.epoch
    )


def check_file(trained: Trained) -> Line:
    """Check that the file is whole: layers, finite weights, and the hash that it says itself."""
    name = trained.path.name
    if trained.content is None:
        return judged("file", "it can't be read", [Fault(name, trained.problem, TRAIN)])
    import torch

    content, faults = trained.content, []
    if not content.names:
        faults.append(Fault(name, "it holds no layer of a LoRA", TRAIN))
    broken = [k for k, tensor in content.tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        faults.append(
            Fault(
                name,
                f"{how_many(len(broken), 'tensor holds', 'tensors hold')} NaN or infinity",
                TRAIN,
            )
        )
    silent = []
    for layer in content.names:
        try:
            silent += [layer] if content.is_silent(layer) else []
        except CheckpointError as error:
            faults.append(Fault(name, str(error), TRAIN))
    if content.names and len(silent) == len(content.names):
        faults.append(Fault(name, "every weight is zero: it changes no image", TRAIN))
    said = trained.origin.tensors_hash
    if said and said != tensors_hash(content.metadata, content.tensors):
        faults.append(Fault(name, "its weights are not those that its header is about", TRAIN))
    found = (
        f"{how_many(len(content.names), 'layer')}, "
        f"{how_many(len(content.tensors), 'finite tensor')}, hash as it says"
    )
    if not said:
        found = (
            f"{how_many(len(content.names), 'layer')}, {how_many(len(content.tensors), 'tensor')} "
            "(it says no hash)"
        )
    return judged("file", found, faults, layers=len(content.names))


def check_checkpoint(trained: Trained, evidence: Evidence, base: str | None = None) -> Line:
    """Follow the chain: base model, dataset, the training's state, its checkpoints, the file."""
    if trained.content is None:
        return judged(
            "checkpoint", "it can't be read", [Fault(trained.path.name, trained.problem, TRAIN)]
        )
    dataset_faults, version = check_dataset(trained.path.name, trained.origin, evidence.folder)
    faults = [*dataset_faults, *_base_faults(trained, base)]
    if trained.notes is None:
        if not faults:
            return unchecked("checkpoint", "the notes of its training are not here", _NOTES)
    else:
        faults += _state_faults(trained)
    count = len(trained.noted("checkpoints"))
    found = (
        f"base model {trained.origin.base_model or 'unnamed'}, dataset "
        f"{trained.origin.dataset_fingerprint[:16] or 'unnamed'}"
        f"{f' of version {version}' if version else ''}, {how_many(count, 'checkpoint')}, "
        f"file {trained.hash[:16]}"
    )
    return judged("checkpoint", found, faults, checkpoints=count, version=version)


def check_hyperparameters(trained: Trained) -> Line:
    """Check that the file says every option of its training, and that its tensors agree."""
    name = trained.path.name
    if trained.content is None:
        return judged("hyperparameters", "it can't be read", [Fault(name, trained.problem, TRAIN)])
    origin, faults = trained.origin, []
    advice = "Train with this package, which writes them into the file."
    if not origin.settings:
        faults.append(Fault(name, "it does not say what it was trained with", advice))
    else:
        try:
            TrainingSettings.from_mapping(dict(origin.settings), None)
        except SettingsError as error:
            faults.append(Fault(name, f"its settings can't be used again: {error}", advice))
    lacking = [
        word
        for word, value in (("base model", origin.base_model), ("steps", origin.steps),
                            ("rank", origin.rank), ("dataset", origin.dataset_fingerprint))
        if not value
    ]  # fmt: skip
    if lacking:
        faults.append(Fault(name, f"it does not say its {', '.join(lacking)}", advice))
    ranks = set()
    for layer in trained.content.names:
        with suppress(CheckpointError):  # the line about the file says it
            ranks.add(trained.content.rank(layer) or 0)
    ranks.discard(0)
    stated = origin.settings.get("rank")
    if isinstance(stated, int) and not trained.content.is_dora and ranks and max(ranks) < stated:
        faults.append(
            Fault(name, f"it says rank {stated}, and its layers have {max(ranks)}", advice)
        )
    options = origin.settings
    found = (
        f"{how_many(len(options), 'option')}: rank {origin.rank}, learning rate "
        f"{options.get('learning_rate', 'unknown')}, {_stated(origin.steps, 'step')}, seed "
        f"{options.get('seed', 'unknown')}"
    )
    return judged("hyperparameters", found, faults, options=len(options))


def _places(path: Path, work: Path | None) -> Iterator[Path]:
    if work is not None:
        yield work
        yield from sorted(place.parent for place in work.glob(f"*/{FINISHED}"))
        return
    stem = path.stem
    yield path.with_name(f"{stem}.work")
    start, mark, _ = stem.rpartition("-epoch")
    if mark:
        yield path.with_name(f"{start}.work")


def _is_noted(trained: Trained) -> bool:
    notes = trained.notes or {}
    if notes.get("file") == trained.hash:
        return True
    # A checkpoint has no hash in the notes: it is known by its name and by the loss in its header.
    metadata = trained.content.metadata if trained.content is not None else {}
    loss = read_header(metadata).validation_loss
    return any(
        Path(str(kept.get("file"))).name == trained.path.name
        and Path(str(kept.get("file"))).name != Path(str(trained.outcome.get("file"))).name
        and kept.get("validation_loss") == loss
        for kept in trained.noted("checkpoints")
    )


def _course(history: pl.DataFrame, trained: Trained) -> tuple[str, Convergence | None]:
    try:
        settings = TrainingSettings.from_mapping(dict(trained.origin.settings), None)
    except SettingsError:
        settings = TrainingSettings()
    if history["validation_loss"].drop_nulls().len() > 1:
        return "validation loss", course_of(history, settings)
    rows = history.drop_nulls("loss")
    found = convergence(
        rows["epoch"].to_list(), rows["loss"].to_list(), tolerance=settings.plateau_tolerance
    )
    return "training loss", found


def _last(history: pl.DataFrame) -> int:
    return int(history["epoch"].to_list()[-1])


def _base_faults(trained: Trained, base: str | None) -> list[Fault]:
    """Compare the base model with the one that the file names, where it can be found here."""
    from ..generation import models
    from ..training.denoisers.load import identity_of
    from ..training.settings import BasePrecision

    origin = trained.origin
    name = base or origin.base_model
    if not (name and origin.base_model_fingerprint):
        return []
    try:
        if models.model_path(name) is None:
            return []  # a hub's id: what is downloaded there is the hub's version
        found = {
            identity_of(name, dtype=dtype, precision=precision)
            for dtype in _DTYPES
            for precision in get_args(BasePrecision)
        }
    except CuratorError:
        # A checkpoint of ComfyUI has another identity: what loads it is checked by inference.
        return []
    if origin.base_model_fingerprint in found:
        return []
    return [
        Fault(
            str(name),
            "the base model is not the one that the LoRA was trained on",
            "Put the model's own files back, or say where they lie: --base MODEL.",
        )
    ]


def _state_faults(trained: Trained) -> list[Fault]:
    faults = []
    for kept in trained.noted("checkpoints"):
        told = Path(str(kept.get("file")))
        try:
            beside = trained.path.parent / told.name
            read(beside if beside.is_file() else told)
        except (CheckpointError, OSError, ValueError) as error:
            faults.append(Fault(told.name, f"a kept checkpoint is not whole: {error}", TRAIN))
    for path in sorted(trained.work.glob("*.safetensors")) if trained.work else ():
        try:
            load_tensors(path)
        except StateMismatchError as error:
            faults.append(Fault(f"{path.parent.name}/{path.name}", str(error), TRAIN))
    if trained.work and not any(trained.work.glob("*.safetensors")):
        faults.append(
            Fault(trained.work.name, "the training's state is gone: it can't go on", TRAIN)
        )
    return faults


def _stated(count: Any, noun: str) -> str:
    """Say how many a file states; what is no number, as it is stated."""
    return how_many(count, noun) if isinstance(count, int) else f"{count} {plural(noun)}"
