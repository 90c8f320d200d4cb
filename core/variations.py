"""The scenes of an augmentation: angles x lights x expressions x backgrounds, evenly chosen."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from .augmentation_section import AugmentationSection
from .plan import SEED_DOCUMENT_SEEDS
from .project import Project
from .project_sections import PlanSection, ScenarioSection

AXES = ("angle", "light", "expression", "background")
"""What varies; each is a column of the images, and a key in their metadata."""

_TEMPLATE = "portrait of {trigger} {class_word}, {scenario}"


def with_variations(project: Project) -> Project:
    """Return an augmentation's project with the plan and the scenes that it stands for.

    A plan and scenarios that the project has are kept. Otherwise there are as many scenes as give
    the wanted candidates with every seed, and each angle, light, expression and background is in as
    many of them as the others of its kind.

    Args:
        project: Any; one without an augmentation is returned as it is.
    """
    section = project.augmentation
    if section is None:
        return project
    plan = project.plan or _plan()
    scenarios = project.scenarios or tuple(
        ScenarioSection(
            number=number,
            name=", ".join(axes.values()),
            category="variation",
            prompt=", ".join(axes[name] for name in ("expression", "background", "light", "angle")),
        )
        for number, axes in variations_of(project).items()
    )
    return project.model_copy(update={"plan": plan, "scenarios": scenarios})


def variations_of(project: Project) -> Mapping[int, Mapping[str, str]]:
    """Return what each scene of an augmentation shows, by its number and the names of the axes.

    Empty where the project has scenarios of its own, of which that is not known.
    """
    section = project.augmentation
    if section is None or project.scenarios:
        return {}
    plan = project.plan or _plan()
    per_scene = len(plan.seeds) * plan.takes
    chosen = evenly(
        (section.angles, section.lights, section.expressions, section.backgrounds),
        -(-candidates_of(section) // per_scene),
    )
    return {number: dict(zip(AXES, values, strict=True)) for number, values in enumerate(chosen, 1)}


def _plan() -> PlanSection:
    return PlanSection(seeds=SEED_DOCUMENT_SEEDS, template=_TEMPLATE, caption=_TEMPLATE)


def candidates_of(section: AugmentationSection) -> int:
    """Return how many images are generated at least."""
    return section.candidates or -(-section.total * 3 // 2)


def evenly(axes: Sequence[Sequence[str]], count: int) -> list[tuple[str, ...]]:
    """Choose combinations of one value an axis, so that values, and pairs of them, come evenly.

    Greedy: the next is the one whose values, and then pairs of values, have come least often.

    Args:
        axes: The values of each.
        count: How many; all of them where there are not more.
    """
    left = list(itertools.product(*axes))
    if count >= len(left):
        return left
    singles: Counter[tuple[int, str]] = Counter()
    pairs: Counter[tuple[tuple[int, str], ...]] = Counter()
    chosen = []
    for _ in range(count):
        best = min(
            left,
            key=lambda values: (
                sum(singles[one] for one in enumerate(values)),
                sum(pairs[two] for two in itertools.combinations(enumerate(values), 2)),
            ),
        )
        left.remove(best)
        chosen.append(best)
        singles.update(enumerate(best))
        pairs.update(itertools.combinations(enumerate(best), 2))
    return chosen
