"""The whole checklist, each line by doing what it says, and the files that say how it went."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from .. import atomic
from ..dataset.checksums import add_later
from ..dataset.publish import version_of
from ..dataset.verdict import (
    CARD_FILE,
    REPORT_FILE,
    VERIFICATION_FILE,
    VERIFICATION_PAGE,
    card_with_verdict,
    report_with,
)
from ..defaults import REGENERATED_IMAGES, TEST_PROMPTS
from ..errors import CuratorError
from ..evaluation.baseline import MakeBackend
from ..evaluation.setup import Setup
from ..evaluation.summary import Targets
from ..features import FeatureStore
from ..imageset import content_hash
from ..progress import Progress, silent
from . import data, documentation, reproduction, sign_off, training
from . import samples as test_images
from .checklist import LINES, Line, Readiness, unchecked
from .evidence import measure, read_evidence
from .page import page, report_parts
from .reproduction import BackendOf
from .training import read_trained


class VerdictNotWrittenError(CuratorError):
    """The verdict can't be written into the dataset."""


def check_readiness(
    dataset: Path | str,
    lora: Path | str | None = None,
    *,
    regenerate: int | Literal["all"] = REGENERATED_IMAGES,
    base: str | None = None,
    faces: str | None = None,
    clip: tuple[str, str] | None = None,
    work: Path | None = None,
    samples: int = TEST_PROMPTS,
    samples_folder: Path | None = None,
    setup: Callable[[Setup], Setup] | None = None,
    targets: Targets = Targets(),  # noqa: B008
    with_lora: MakeBackend | None = None,
    backend: BackendOf | None = None,
    progress: Progress = silent,
) -> Readiness:
    """Go through the deployment checklist of a dataset and its LoRA; nothing is written into them.

    Args:
        dataset: Folder of an exported dataset.
        lora: The LoRA file that was trained on it. Without it the lines of the LoRA are not
            checked, and the verdict is withheld.
        regenerate: How many images are made again and compared byte for byte; ``all``, or 0.
        base: Where the base model lies now, if not where the records say.
        faces: Face pack, in place of the dataset's own.
        clip: open_clip model and weights, in place of the dataset's own.
        work: Folder of the training's notes, if it is not ``NAME.work`` beside the file.
        samples: How many new prompts the LoRA is tried with.
        samples_folder: Where its images go; ``NAME.verification`` beside the file unless given.
        setup: Changes how the test images are made.
        targets: What the figures of the test images should reach.
        with_lora: What makes test images; a pipeline of diffusers unless given.
        backend: What makes images again whose back end this package lacks.
        progress: Watches.

    Raises:
        NotADatasetError: The folder is no exported dataset.
        FactsError: Its ``facts.json`` can't be read.
    """
    place = Path(dataset).expanduser()
    file = None if lora is None else Path(lora).expanduser()
    found: dict[str, Line] = {}

    def add(*lines: Line) -> None:
        found.update({line.key: line for line in lines})

    evidence = read_evidence(place, progress)
    # What is measured here is measured anew, whatever has been measured before.
    with FeatureStore() as store:
        evidence = measure(evidence, store, faces=faces, progress=progress)
        add(
            data.check_images(evidence),
            data.check_quality(evidence),
            data.check_faces(evidence),
            data.check_seeds(evidence),
            data.check_metadata(evidence),
        )
        folder = None
        if file is None:
            keys = (*training.KEYS, *test_images.KEYS)
            add(*(unchecked(key, training.NO_LORA, training.GIVE) for key in keys))
        else:
            folder = samples_folder or test_images.samples_folder(file)
            trained = read_trained(file, work)
            add(
                training.check_training(trained),
                training.check_loss(trained),
                training.check_file(trained),
                training.check_checkpoint(trained, evidence, base),
                training.check_hyperparameters(trained),
            )
            made_with = test_images.setup_of(
                place, trained.trigger, base=base, faces=faces, clip=clip, count=samples
            )
            tried = test_images.make_samples(
                trained, evidence, setup(made_with) if setup else made_with, store, folder=folder,
                targets=targets, backend=with_lora, progress=progress,
            )  # fmt: skip
            add(
                test_images.check_inference(tried, file.name),
                test_images.check_samples(tried),
                *test_images.check_figures(tried, evidence, targets),
            )
    add(sign_off.check_approval(place, file, folder))
    version = version_of(place)
    add(
        documentation.check_parameters(evidence),
        documentation.check_mapping(evidence),
        documentation.check_prompts(evidence),
        documentation.check_version(evidence, version),
    )
    again = []
    if regenerate:
        again = reproduction.regenerated(
            evidence, regenerate, model=base, backend=backend, progress=progress
        )
    add(
        reproduction.check_regenerate(evidence, again),
        reproduction.check_seed_store(evidence),
        reproduction.check_recipe(evidence),
        reproduction.check_automated(evidence),
        reproduction.check_identical(evidence, again),
    )
    return Readiness(
        dataset=place.resolve().name,
        version=version,
        fingerprint=evidence.fingerprint,
        lora="" if file is None else file.name,
        lora_hash=content_hash(file) if file is not None and file.is_file() else "",
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        lines=tuple(found[key] for key in LINES),
    )


def write_readiness(dataset: Path | str, readiness: Readiness) -> Path:
    """Write ``verification.json`` and its page into a dataset; the verdict into card and report.

    The list of checksums follows them, where they were as listed; one that somebody has edited is
    left as it is, and so stays known as changed.

    Returns:
        The file with everything.

    Raises:
        VerdictNotWrittenError: The folder can't be written to.
    """
    folder = Path(dataset).expanduser()
    path = folder / VERIFICATION_FILE
    text = json.dumps(readiness.as_mapping(), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        atomic.write_text(path, text + "\n")
        atomic.write_text(folder / VERIFICATION_PAGE, page(readiness))
        add_later(folder, CARD_FILE, lambda text: card_with_verdict(text, readiness.verdict))
        add_later(folder, REPORT_FILE, lambda text: report_with(text, report_parts(readiness)))
    except OSError as error:
        raise VerdictNotWrittenError(
            f"The verdict can't be written into {folder}: {error.strerror or error}. Make the "
            "folder writable, or take the result from --json."
        ) from error
    return path
