"""The images of a project in waves, each measured before the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .imageset import ImageSet
from .plan import Request
from .progress import Progress, silent
from .project import Project
from .project_measuring import measured_of
from .project_parts import STORE_FILE, decisions_of, plan_of, quotas_of
from .project_sections import WavesSection

if TYPE_CHECKING:
    from .analysis.duplicates import IntArray
    from .engines.work import Engine
    from .generation.backend import Backend

WAVES_FILE = "waves.json"
"""In a project's folder of measurements: what each wave has asked for."""


def in_waves(
    project: Project,
    backend: Backend,
    folder: Path,
    work: Path,
    base: Path | str,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> ImageSet:
    """Make a project's images in waves; see :mod:`.growth.waves`.

    Args:
        project: With its section ``waves``.
        backend: Its model.
        folder: Where the images go.
        work: Folder of measurements, and of what each wave has asked for.
        base: The folder that relative paths start from.
        progress: Watches.
        engine: Where images are made and measured; in this process unless given.

    Returns:
        Every image that a wave has asked for, in the plan's order; notes say how it went.
    """
    from .features import FeatureStore
    from .generation.run import generate as generate_plan
    from .growth.waves import Goal, grow, wave_of

    waves = project.waves or WavesSection()
    plan = plan_of(project)

    def make(requests: Sequence[Request], note: Callable[[Request], Mapping[str, Any]]) -> ImageSet:
        return generate_plan(
            requests,
            backend,
            folder,
            batch_size=project.model.batch_size,
            note=note,
            progress=progress,
            engine=engine,
        )

    def look(images: ImageSet) -> tuple[ImageSet, IntArray]:
        with FeatureStore(work / STORE_FILE) as store:
            measured = measured_of(images, project, store, work, base, None, progress, engine)
        return measured.images, measured.pairs

    quotas = quotas_of(project)
    goal = Goal(
        total=project.selection.total,
        quotas=quotas,
        wave=waves.size or wave_of(project.selection.total, quotas),
        gain=waves.gain,
        budget=waves.images or len(plan.requests()),
        most=waves.takes,
        decisions=decisions_of(project, base),
    )
    grown = grow(
        plan, goal, make, look, work / WAVES_FILE, settings=backend.settings, folder=folder
    )
    return replace(grown.images, notes=(*grown.images.notes, grown.sentence()))
