"""What the stages are given of a project: its sections in the stages' own terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .defaults import MASK_KINDS, SEED_DOCUMENT
from .naming import located
from .plan import Plan, Scenario, Subject
from .project import Project, ProjectFileError
from .stores.addresses import is_address, shown
from .stores.mirror import mirror
from .variations import with_variations

if TYPE_CHECKING:
    from .analysis.face_validation import FaceThresholds
    from .captions.stage import Captioning
    from .engines.work import Engine
    from .generation.backend import Backend
    from .selection import Decisions, Quota

STORE_FILE = "features.sqlite"
"""In a project's output folder: the feature store."""


def plan_of(project: Project) -> Plan:
    """Return the plan that a project's sections describe.

    Raises:
        PlanError: The plan is impossible (a name or number twice, an unknown placeholder).
        ProjectFileError: The project has no plan.
    """
    project = with_variations(project)
    if project.plan is None:
        raise ProjectFileError(
            "The project generates nothing: it has no [plan]. Add one, or use 'curate' on a folder."
        )
    parts = {
        name: [entry.model_dump(include=set(kind.model_fields)) for entry in entries]
        for name, kind, entries in (
            (
                "subjects",
                Subject,
                [one for one in project.subjects if one.source is None or project.augmentation],
            ),
            ("scenarios", Scenario, project.scenarios),
            ("originals", Scenario, project.originals),
        )
    }
    return Plan.from_mapping({**project.plan.model_dump(), **parts})


def backend_of(
    project: Project, loras: Sequence[tuple[Path, float]] = (), engine: Engine | None = None
) -> Backend:
    """Return the model that a project generates with; its weights load when they are needed.

    Args:
        project: With its section [model].
        loras: LoRA files and weights to apply.
        engine: Where it will sample; in this process unless given.
    """
    from .generation.diffusers_backend import DiffusersBackend

    model = project.model
    backend = DiffusersBackend(
        model.path,
        scheduler=model.scheduler,
        steps=model.steps,
        guidance=model.guidance,
        width=model.width,
        height=model.height,
        dtype=model.dtype,
        device=model.device,
        loras=loras,
        config=model.config,
    )
    return backend.sized() if engine is not None and engine.shares else backend


def thresholds_of(project: Project) -> FaceThresholds:
    """Return what a valid face is in a project."""
    from .analysis.face_validation import FaceThresholds

    faces = project.faces
    return FaceThresholds(
        confidence=faces.minimum_confidence,
        share=faces.minimum_share,
        side=faces.minimum_side,
        identity=faces.minimum_identity,
        choice=faces.choice,
        raw=project.quality.formula == SEED_DOCUMENT,
    )


def quotas_of(project: Project) -> list[Quota]:
    """Return the project's quotas, the most important first."""
    from .selection import Quota

    return [Quota.parse(text) for text in project.selection.quotas]


def decisions_of(project: Project, base: Path | str = ".") -> Decisions | None:
    """Return what a person has decided about single images, where the project names a file.

    Args:
        project: With its section [selection].
        base: The folder that relative paths start from.

    Raises:
        DecisionsFileError: The file cannot be used.
    """
    if project.selection.decisions is None:
        return None
    from .selection import Decisions

    return Decisions.read(resolved(base, project.selection.decisions))


def captioning_of(project: Project, base: Path | str = ".") -> Captioning | None:
    """Return what is done to captions, where the project says something of it.

    Args:
        project: With its section [captions].
        base: The folder that relative paths start from.

    Raises:
        CaptionerNotFoundError: The model is not here, and the hub does not give it.
        EditError: An edit cannot be done.
    """
    if project.captions is None:
        return None
    from .captions.stage import Captioning

    subjects = ", ".join(subject.trigger or subject.name for subject in project.subjects)
    words = project.dataset.trigger or subjects
    return Captioning.of(project.captions, words, base)


@contextmanager
def working(project: Project, engine: Engine | None = None) -> Iterator[Engine]:
    """Yield what does a project's work, and close it in the end.

    Args:
        project: With its section [engine].
        engine: One that is there already, which is yielded as it is, and left open.
    """
    if engine is not None:
        yield engine
        return
    with closing(engine_of(project)) as own:
        yield own


def engine_of(project: Project) -> Engine:
    """Return what does a project's work; whoever asked for it closes it."""
    wanted = project.engine
    if wanted.name == "ray":
        from .engines.ray_engine import RayEngine

        return RayEngine(
            wanted.workers,
            address=wanted.address,
            threads=wanted.cpus,
            gpus=wanted.gpus,
            parts=bool(wanted.parts),
        )
    from .engines.local import Local

    return Local(wanted.workers)


def masks_of(project: Project, base: Path | str = ".") -> str | None:
    """Return which masks the dataset gets: a kind, or the path of a folder."""
    wanted = project.dataset.masks
    return wanted if wanted is None or wanted in MASK_KINDS else str(resolved(base, wanted))


def recipe_of(project: Project) -> dict[str, Any]:
    """Return a project as its dataset's recipe: decisions are a file beside it.

    What is made with a LoRA of it, later, is no part of it, and where the work was done neither.
    """
    from .selection.decisions import DECISIONS_FILE

    recipe = _shown(
        project.model_dump(mode="json", exclude_none=True, exclude={"assets", "engine"})
    )
    if "decisions" in recipe["selection"]:
        recipe["selection"]["decisions"] = DECISIONS_FILE
    return recipe


def _shown(value: Any) -> Any:
    """Return a value as it may be published: its addresses without signatures and tokens."""
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return shown(value) if is_address(value) else value


def source_of(base: Path | str, source: str) -> Path | str:
    """Return where the images of a project lie: a path, or an address as it is."""
    return source if is_address(source) else resolved(base, source)


def with_output(project: Project, output: Path) -> Project:
    """Return the project with its results going elsewhere."""
    section = project.project.model_copy(update={"output": str(output)})
    return project.model_copy(update={"project": section})


def resolved(base: Path | str, path: str) -> Path:
    """Return where a path of a project leads, whose relative paths start from ``base``.

    What an address names is downloaded, unless it is here already.
    """
    if is_address(path):
        return mirror(path, whole=True).path
    return located(Path(base).expanduser(), str(Path(path).expanduser()))
