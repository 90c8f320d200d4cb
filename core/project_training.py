"""The LoRA of a project: trained on its dataset, told of in the report, and drawn with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .damages import note_damage
from .naming import portable, slug
from .progress import Progress, silent
from .project import Project
from .project_parts import STORE_FILE, backend_of, resolved
from .project_sections import TrainingSection
from .requests import tidy_request

if TYPE_CHECKING:
    from .training.job import LoraResult, PriorImages
    from .training.result import Callbacks

log = logging.getLogger(__name__)

LORA_FOLDER = "lora"
PRIOR_FOLDER = "prior"


def train(
    project: Project,
    dataset: Path,
    base: Path | str = ".",
    *,
    callbacks: Callbacks | None = None,
    progress: Progress = silent,
) -> LoraResult:
    """Train the LoRA of a project on its dataset.

    A run that was killed goes on; one whose dataset or settings have changed since starts anew;
    one that is finished is not repeated.

    Args:
        project: With its section [training].
        dataset: Folder of the dataset.
        base: The folder that relative paths start from.
        callbacks: Who is told how it goes.
        progress: Watches.
    """
    from .features import FeatureStore
    from .training import LoraJob, SampleSettings
    from .training.data.masks import BESIDE
    from .training.denoisers.recognise import recognise, said_by
    from .training.finished import train_once
    from .training.loop.state import StateMismatchError

    section = project.training or TrainingSection()
    model = section.base or project.model.path
    config = section.base_config if section.base else project.model.config
    chosen = section.chosen(recognise(model, config))
    settings = chosen.settings
    output = resolved(base, project.project.output)
    triggers = [subject.trigger or subject.name for subject in project.subjects]
    samples = SampleSettings(
        section.prompts,
        seed=settings.seed,
        steps=project.model.steps,
        guidance=project.model.guidance,
    )
    job = LoraJob(
        dataset,
        lora_file_of(project, base),
        base=model,
        trigger=", ".join(triggers) or None,
        validation=None if section.validation is None else resolved(base, section.validation),
        prior=prior_of(project, dataset, base, progress=progress),
        prior_caption=section.prior_caption,
        samples=samples,
        device=project.model.device,
        dtype=project.model.dtype,
        base_precision=section.base_precision,
        masks=section.masks if section.masks in (None, BESIDE) else resolved(base, section.masks),
        control_images=None
        if section.control_images is None
        else resolved(base, section.control_images),
        base_config=config,
        base_says=said_by(model),
    )
    with FeatureStore(output / STORE_FILE) as store:
        try:
            found = train_once(job, settings, store=store, callbacks=callbacks, progress=progress)
        except StateMismatchError as error:
            if error.damaged is not None:
                note_damage("training states", error.damaged, "the training begins anew")
            log.warning("Training anew: %s", error)
            found = train_once(
                job, settings, store=store, callbacks=callbacks, progress=progress, resume=False
            )
    return found.with_choice(chosen)


def lora_file_of(project: Project, base: Path | str = ".") -> Path:
    """Return where the LoRA file of a project's training lies, or will lie."""
    section = project.training or TrainingSection()
    file = section.file or f"{LORA_FOLDER}/{_file_stem(project.project.name)}.safetensors"
    return resolved(base, project.project.output) / Path(file).expanduser()


def tell_of_training(dataset: Path, lora: LoraResult) -> bool:
    """Put what came of a training into the report of the dataset that it was made with.

    Returns:
        False where the report is not there, or somebody has edited it: it then stays as it is.
    """
    from .dataset.checksums import add_later
    from .dataset.verdict import REPORT_FILE, report_with
    from .report.training import training_section

    done = lora.training
    last = done.history.drop_nulls("loss").tail(1)["loss"].to_list()
    facts = [
        ("Steps", f"{done.steps:,}"),
        ("Ended", done.message),
        ("Best epoch", str(done.best_epoch)),
        ("Validation loss there", "" if done.best_loss is None else f"{done.best_loss:.5f}"),
        ("Training loss in the end", f"{last[0]:.5f}" if last else ""),
        ("Epoch of convergence", str(done.convergence_epoch or "")),
        ("Base model", lora.base),
        ("Layers", lora.adapted),
        *(("Warning", warning) for warning in lora.warnings),
    ]
    known = [(label, value) for label, value in facts if value]
    section = training_section(lora.file.name, known, lora.plot, lora.samples)
    return add_later(dataset, REPORT_FILE, lambda text: report_with(text, {"training": section}))


def prior_of(
    project: Project, dataset: Path, base: Path | str = ".", *, progress: Progress = silent
) -> Path | PriorImages | None:
    """Return a project's prior-preservation images; make them where it is to be.

    Args:
        project: Its section [training] names a folder, or says how many images to make.
        dataset: Folder of the dataset, whose captions give the scenes.
        base: The folder that relative paths start from.
        progress: Watches.
    """
    from .dataset.sidecars import read_captions
    from .evaluation.character import Character
    from .training.data.prior import make_prior

    def make(count: int, seed: int) -> PriorImages:
        people: dict[str, str] = {}
        for subject in project.subjects:
            character = Character(subject.trigger or subject.name, subject.class_word)
            people |= character.as_anybody
        return make_prior(
            read_captions(dataset),
            people,
            backend_of(trained_base(project)),
            resolved(base, project.project.output) / LORA_FOLDER / PRIOR_FOLDER,
            count,
            seed=seed,
            batch_size=project.model.batch_size,
            progress=progress,
        )

    return prior_images(project.training, base, make)


def prior_images(
    section: TrainingSection | None, base: Path | str, make: Callable[[int, int], PriorImages]
) -> Path | PriorImages | None:
    """Return the prior-preservation images that a project wants.

    Args:
        section: Names a folder, or else says how many images to make; None wants none.
        base: The folder that the project's relative paths start from.
        make: Makes that many images, from that seed; called only where images are to be made.

    Returns:
        A folder, or what was made; None where the project wants no such images.
    """
    if section is None:
        return None
    if section.prior is not None:
        return Path(base).expanduser() / Path(section.prior).expanduser()
    if not section.prior_pictures:
        return None
    return make(section.prior_pictures, section.settings().seed)


def draw_with(
    project: Project, lora: LoraResult, *, progress: Progress = silent
) -> tuple[Path, ...]:
    """Make an image a prompt with a project's model and a LoRA file, loaded as any other.

    Args:
        project: Its model, and the prompts of its section [training] (without any: a caption of
            the dataset).
        lora: What was trained.
        progress: Watches.

    Returns:
        The images, beside the LoRA file; each describes how it was made.
    """
    from .generation.run import generate as generate_plan

    section = project.training or TrainingSection()
    prompts = section.prompts or tuple(sorted(lora.facts.captions or {})[:1])
    seed, subject = section.settings().seed, project.project.name
    requests = [
        tidy_request(prompt, number, subject=subject, seed=seed, name=f"prompt {number}")
        for number, prompt in enumerate(prompts, 1)
    ]
    backend = backend_of(trained_base(project), loras=[(lora.file, 1.0)])
    made = generate_plan(
        requests, backend, lora.file.with_name(lora.file.stem + ".pictures"), batch_size=1,
        progress=progress,
    )  # fmt: skip
    return tuple(made.paths())


def _file_stem(name: str) -> str:
    """Return a project's name as the name of a file: one that could lead elsewhere is replaced."""
    return slug(name) if portable(name) != name or name.startswith(".") else name


def trained_base(project: Project) -> Project:
    """Return the project with the model that is trained as the one that generates."""
    section = project.training
    if section is None or not section.base:
        return project
    model = project.model.model_copy(update={"path": section.base, "config": section.base_config})
    return project.model_copy(update={"model": model})
