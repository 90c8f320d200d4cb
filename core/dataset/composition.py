"""What is real in a dataset and what is not: shares, for the facts and for the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..reading.disturbances import DISTURBED
from .records import Record

REAL = "real"
_AXES = {"angle": "Angle", "light": "Light", "expression": "Expression", "background": "Background"}
_KINDS = {REAL: "Real, as they are", "synthetic": "Synthetic", DISTURBED: "Synthetic, disturbed"}


def composition(records: Sequence[Record]) -> dict[str, Any]:
    """Return how many images are real, synthetic, and disturbed by what; shares are of all.

    Nothing where all images are real, or all are synthetic and undisturbed: then there is nothing
    to tell apart.
    """
    kinds = Counter(_kind(one) for one in records)
    if not kinds[DISTURBED] and not (kinds[REAL] and kinds["synthetic"]):
        return {}
    total = len(records)

    def counted(counts: Counter[str]) -> dict[str, dict[str, float]]:
        return {
            name: {"images": count, "share": round(count / total, 4)}
            for name, count in sorted(counts.items())
        }

    found: dict[str, Any] = {"images": total, "kinds": counted(kinds)}
    disturbed = Counter(
        str(one.values["disturbance"]["kind"]) for one in records if "disturbance" in one.values
    )
    if disturbed:
        found["disturbances"] = counted(disturbed)
    for axis in _AXES:
        values = Counter(str(one.values[axis]) for one in records if axis in one.values)
        if values:
            found[axis] = counted(values)
    return found


def _kind(one: Record) -> str:
    kind = one.values.get("type")
    return kind if kind in (REAL, DISTURBED) else "synthetic"


def composition_table(records: Sequence[Record]) -> str:
    """Return the part of the card that says what is real and what is not; empty without both."""
    found = composition(records)
    if not found:
        return ""
    lines = ["## Real and synthetic\n", "| | Images | Share |", "|---|---:|---:|"]

    def row(label: str, values: dict[str, float]) -> str:
        return f"| {label} | {values['images']} | {values['share']:.1%} |"

    order = [name for name in _KINDS if name in found["kinds"]]
    lines += [row(_KINDS[name], found["kinds"][name]) for name in order]
    for name, values in found.get("disturbances", {}).items():
        lines.append(row(f"– by {name}", values))
    for axis, label in _AXES.items():
        for name, values in found.get(axis, {}).items():
            lines.append(row(f"{label}: {name.replace('|', ' ')}", values))
    lines.append(
        "\nReal images have their own pixels. Each synthetic one says in its file how it was made, "
        "and a disturbed one by which numbers: `character-curator reproduce IMAGE` makes it again."
        "\n"
    )
    return "\n".join(lines)
