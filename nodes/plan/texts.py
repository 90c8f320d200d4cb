"""Scenarios and seeds as people write them into a widget, and plans as they write into a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...core.errors import CuratorError
from ...core.plan import MAXIMUM_SEED
from ..ui.lines import lines_of

if TYPE_CHECKING:
    from ...core.plan import Plan, Scenario


MOST_SEEDS = 100_000


class SeedsError(CuratorError):
    """A text says no seeds, or more than anybody makes images of."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"Seeds: '{part[:200]}' is neither a number nor a range such as '1-10' (from the "
            f"smaller to the larger number, each below {MAXIMUM_SEED:,}, {MOST_SEEDS:,} in all)."
        )


def scenarios_of(text: str, name: str = "scenarios") -> tuple[Scenario, ...]:
    """Read scenarios, one a line: ``prompt``, ``name | prompt``, ``category | name | prompt``.

    Args:
        text: The lines.
        name: What the widget is called.

    Raises:
        LinesError: There are too many, or one is too long; it says which.
    """
    from ...core.plan import Scenario

    found: list[Scenario] = []
    for line in lines_of(name, text):
        if line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|", 2)]
        prompt = parts[-1]
        title = parts[-2] if len(parts) > 1 else prompt.split(",")[0]
        category = parts[0] if len(parts) > 2 else ""
        found.append(Scenario(number=len(found) + 1, name=title, prompt=prompt, category=category))
    return tuple(found)


def seeds_of(text: str) -> tuple[int, ...]:
    """Read numbers and ranges: ``1-3, 42`` is 1, 2, 3, 42.

    Raises:
        SeedsError: A part is neither, a range runs backwards, a seed is beyond what a browser's
            number keeps, or there are more than :data:`MOST_SEEDS`.
    """
    seeds: list[int] = []
    for part in filter(None, re.split(r"[,\s]+", re.sub(r"\s*-\s*", "-", text.strip()))):
        match = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < MAXIMUM_SEED or last - first >= MOST_SEEDS - len(seeds):
            raise SeedsError(part)
        seeds += range(first, last + 1)
    return tuple(seeds)


def plan_of_file(text: str, name: str) -> Plan:
    """Read a plan from TOML, or that of a project file, where it is a table.

    Args:
        text: The file's text.
        name: What errors call the file.

    Raises:
        ProjectFileError: It is not TOML, or a project with a fault.
        PlanError: The plan is impossible.
    """
    from ...core.plan import Plan
    from ...core.project import from_mapping, tables
    from ...core.project_parts import plan_of

    values = tables(text, name)
    if "plan" in values:
        return plan_of(from_mapping(values, name, text))
    return Plan.from_mapping(values)
