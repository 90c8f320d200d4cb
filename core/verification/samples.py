"""The third group of the checklist: test images of the LoRA, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..counts import how_many, worded
from ..defaults import TEST_PROMPTS
from ..errors import CuratorError
from ..evaluation.baseline import MakeBackend
from ..evaluation.lora_files import evaluate
from ..evaluation.setup import Setup
from ..evaluation.summary import Targets
from ..features import FeatureStore
from ..progress import Progress, silent
from .checklist import Fault, Line, judged, unchecked
from .evidence import Evidence
from .training import Trained

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation

FOLDER_END = ".verification"
"""The test images of ``NAME.safetensors`` lie in ``NAME.verification`` beside it."""

QUALITY_LOSS = 0.05
"""Most that the mean quality of test images may lie below that of the training images."""

KEYS = ("inference", "samples", "consistency", "artefacts", "comparison")


@dataclass(frozen=True)
class Samples:
    """Test images of a LoRA file, measured.

    Attributes:
        folder: Where they are.
        setup: How they were made.
        evaluation: What they came to; ``None`` if they could not be made.
        problem: Why they could not be made; empty if they were.
    """

    folder: Path
    setup: Setup
    evaluation: Evaluation | None
    problem: str = ""

    @property
    def files(self) -> dict[str, Path]:
        """The images with the trigger word, by their place in the folder."""
        if self.evaluation is None:
            return {}
        shown = self.evaluation.table.filter(pl.col("series").is_in(["trigger", "grid"]))
        return {name: self.folder / name for name in shown["path"]}


def samples_folder(lora: Path) -> Path:
    """Return where the test images of a LoRA file go."""
    return lora.with_name(lora.stem + FOLDER_END)


def setup_of(
    dataset: Path,
    trigger: str = "",
    *,
    base: str | None = None,
    faces: str | None = None,
    clip: tuple[str, str] | None = None,
    count: int = TEST_PROMPTS,
    sampling: Mapping[str, Any] | None = None,
) -> Setup:
    """Return how test images of a LoRA are made: as the training images were.

    Args:
        dataset: What the LoRA was trained on.
        trigger: The words that call the subject, as the LoRA file says them.
        base: The base model, in place of the dataset's own.
        faces: Face pack, in place of the dataset's own.
        clip: open_clip model and weights, in place of the dataset's own.
        count: How many new prompts.
        sampling: Steps, guidance and so on, in place of the dataset's own.
    """
    from ..dataset.facts import read_facts
    from ..dataset.trigger_words import without_class_word
    from ..evaluation.character import Character

    character = Character.of(read_facts(dataset), trigger or None)
    word = without_class_word(trigger, character.class_word) if trigger else None
    return Setup.of_dataset(
        dataset, trigger=word, model=base, count=count, faces=faces, clip=clip,
        sampling=dict(sampling or {}),
    )  # fmt: skip


def make_samples(
    trained: Trained,
    evidence: Evidence,
    setup: Setup,
    store: FeatureStore,
    *,
    folder: Path | None = None,
    targets: Targets = Targets(),  # noqa: B008
    backend: MakeBackend | None = None,
    progress: Progress = silent,
) -> Samples:
    """Load the LoRA file as the stock loader does, make test images with it, and measure them.

    Images that are there and were made by the same file are not made again.

    Args:
        trained: The LoRA.
        evidence: The dataset that it was trained on.
        setup: How the images are made.
        store: Where measurements are kept.
        folder: Where the images go; :func:`samples_folder` unless given.
        targets: What the figures should reach.
        backend: What makes images; the setup's own unless given.
        progress: Watches.
    """
    place = folder or samples_folder(trained.path)
    if trained.content is None:
        return Samples(place, setup, None, trained.problem)
    try:
        [evaluation] = evaluate(
            [trained.path],
            evidence.folder,
            replace(setup),
            place,
            targets=targets,
            backend=backend,
            store=store,
            metadata={trained.path: dict(trained.content.metadata)},
            progress=progress,
        )
    except CuratorError as error:
        return Samples(place, setup, None, str(error))
    return Samples(place, setup, evaluation)


def check_inference(samples: Samples, lora: str) -> Line:
    """Check that the file loads, that images come out, and that it changes them."""
    if samples.evaluation is None:
        advice = "Use a file that was trained on this base model, or name its own: --base MODEL."
        return judged("inference", "no image came out", [Fault(lora, samples.problem, advice)])
    table = samples.evaluation.table
    pairs = [table.filter(pl.col("series") == name) for name in ("class", "base class")]
    with_lora, without = (_pixels(samples.folder, part) for part in pairs)
    changed = sum(
        not np.array_equal(with_lora[name], without[name]) for name in with_lora if name in without
    )
    faults = []
    if with_lora and not changed:
        what = "the images are those of the base model to the byte: none of its weights is used"
        faults.append(Fault(lora, what, "Use a file that was trained on this base model."))
    found = (
        f"{how_many(table.height, 'image')} made, {changed} of {len(with_lora)} "
        f"{worded(changed, 'differs', 'differ')} from the base model's"
    )
    return judged("inference", found, faults, images=table.height, changed=changed)


def check_samples(samples: Samples) -> Line:
    """Check that the test images were made, and that each file is a whole image."""
    if samples.evaluation is None:
        return unchecked("samples", "the LoRA file made no image", "Mend 'Can load and infer'.")
    from ..analysis.decoding import UnreadableImageError, read_image

    faults = []
    for name, path in samples.files.items():
        try:
            read_image(path)
        except UnreadableImageError as error:
            faults.append(Fault(name, error.reason, "Verify again: it is made again."))
    sheet = samples.evaluation.folder / "sheet.png"
    found = f"{how_many(len(samples.files), 'image')} with the trigger word; look at {sheet}"
    return judged("samples", found, faults, images=len(samples.files))


def check_figures(
    samples: Samples,
    evidence: Evidence,
    targets: Targets = Targets(),  # noqa: B008
) -> tuple[Line, Line, Line]:
    """Judge consistency, artefacts and quality of the test images.

    Returns:
        The lines ``consistency``, ``artefacts`` and ``comparison``.
    """
    if samples.evaluation is None:
        first, second, third = (
            unchecked(key, "the LoRA file made no image", "Mend 'Can load and infer'.")
            for key in KEYS[2:]
        )
        return first, second, third
    evaluation = samples.evaluation
    own, name = evaluation.summary.trigger, evaluation.file.name
    advice = _diagnose(evaluation.file, evidence.folder)
    consistency = own.consistency.value
    faults = []
    if not consistency >= targets.consistency:
        what = f"{consistency:.0%} of the test images are the character, wanted are "
        faults.append(Fault(name, f"{what}{targets.consistency:.0%}", advice))
    first = judged(
        "consistency",
        f"{own.consistency.count} of {how_many(own.consistency.total, 'test image')} "
        f"{worded(own.consistency.count, 'is', 'are')} the character "
        f"(identity at least {evaluation.threshold.value:.3f}); "
        f"wanted are {targets.consistency:.0%}",
        faults,
        share=consistency,
        threshold=evaluation.threshold.value,
    )
    share, faults = own.artefacts.value, []
    if not share <= targets.artefacts:
        what = f"{share:.0%} of the test images have artefacts, allowed are {targets.artefacts:.0%}"
        faults.append(Fault(name, what, advice))
    second = judged(
        "artefacts",
        f"{own.artefacts.count} of {how_many(own.artefacts.total, 'test image')} "
        f"{worded(own.artefacts.count, 'fails', 'fail')} the checks of faces or "
        f"quality; allowed are {targets.artefacts:.0%}",
        faults,
        share=share,
    )
    return first, second, _comparison(own.quality, evidence, name, advice)


def _comparison(quality: float, evidence: Evidence, name: str, advice: str) -> Line:
    if evidence.measured is None:
        return unchecked(
            "comparison", evidence.measuring_problem, "Name the face pack: --faces PACK."
        )
    scores = evidence.measured["quality"].drop_nulls().to_list()
    training = sum(scores) / len(scores) if scores else float("nan")
    faults = []
    if not quality >= training - QUALITY_LOSS:
        what = f"the test images' quality is {quality:.3f}, the training images' is {training:.3f}"
        faults.append(Fault(name, what, advice))
    found = (
        f"mean quality {quality:.3f} beside {training:.3f} of the training images; at most "
        f"{QUALITY_LOSS:g} less is allowed"
    )
    return judged("comparison", found, faults, samples=_known(quality), training=_known(training))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _diagnose(lora: Path, dataset: Path) -> str:
    return f"See why: character-curator diagnose {lora} --dataset {dataset}"


def _pixels(folder: Path, table: pl.DataFrame) -> dict[int, np.ndarray]:
    from ..analysis.decoding import read_image

    rows = table.select("scenario", "path").iter_rows()
    return {number: read_image(folder / name) for number, name in rows}
