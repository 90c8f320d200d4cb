"""What the checklist came to, as text for a canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.verification import Readiness

_SHOWN = 3
"""Faults of a line that are told; ``verification.json`` has all of them."""


def report_of(readiness: Readiness, told: str) -> str:
    """Say the verdict, every line by its group, and of each that does not hold what to do.

    Args:
        readiness: What the checklist came to.
        told: What is to be said of the approval; empty if nothing.
    """
    from ...core.verification.checklist import Status

    marks = {
        Status.HOLDS: "✓", Status.FAILS: "✗", Status.UNCHECKED: "?", Status.NOT_APPLICABLE: "-",
    }  # fmt: skip
    lines, group, advice = [readiness.verdict], "", ""
    for line in readiness.lines:
        if line.group != group:
            group = line.group
            lines.append(f"\n{group}")
        plain = line.status in (Status.HOLDS, Status.FAILS)
        said = line.found if plain else f"{line.status.value}: {line.found}"
        lines.append(f"{marks[line.status]} {line.title}: {said}")
        if line.status is Status.UNCHECKED and line.faults[0].advice != advice:
            advice = line.faults[0].advice
            lines.append(f"    {advice}")
        if line.status is Status.FAILS:
            lines += [f"    {fault}" for fault in line.faults[:_SHOWN]]
            if len(line.faults) > _SHOWN:
                lines.append(f"    and {len(line.faults) - _SHOWN} more in verification.json")
    return "\n".join([*lines, *(["", told] if told else [])])
