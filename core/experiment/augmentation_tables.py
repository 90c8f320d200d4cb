"""The tables of the augmentation experiment: what the seed document states, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from ..counts import how_many
from ..reading.disturbances import KINDS
from .recognition import ARMS, AS_THEY_ARE, CONDITIONS
from .tables import Spread

STATED = {"real": "85 %", "augmented": "92 %"}
"""What the seed document states: 70 real images alone, and with 200 synthetic ones."""
ALL = "all"


def report_of(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the accuracy of every arm and what it is more than real images alone.

    Args:
        repeats: Each with its ``accuracy`` and ``runs``.
    """
    arms: dict[str, Any] = {}
    for arm in ARMS:
        figures: dict[str, Any] = {}
        for condition in (*CONDITIONS, ALL):
            shares = [one["accuracy"][arm][condition] for one in repeats]
            alone = [one["accuracy"]["real"][condition] for one in repeats]
            figures[condition] = {
                "accuracy": Spread(tuple(shares)).as_mapping(),
                # Each repeat against itself: both arms of it are asked about the same images.
                "gain": Spread(
                    tuple(a - b for a, b in zip(shares, alone, strict=True))
                ).as_mapping(),
            }
        arms[arm] = figures
    return {"stated": STATED, "arms": arms if repeats else {}}


def markdown(report: Mapping[str, Any]) -> str:
    """Write the tables of a report: the document's two arms, then every arm by condition."""
    arms, plan = report["arms"], report["plan"]
    if not arms:
        return "No repeat is whole yet.\n"
    count = len(report["repeats"])
    names = [run["subject"] for run in report["repeats"][0]["runs"]]
    disturbed = f"disturbed at strength {plan['test_strength']:g}"
    lines = [
        f"| recognition of {how_many(len(names), 'subject')} | stated | unseen images as they are "
        f"| as they are and {disturbed} |",
        "|--|--:|--:|--:|",
    ]
    head = {
        "real": f"{how_many(plan['real'], 'real image')} of each",
        "augmented": f"{plan['real']} real + {plan['synthetic']} synthetic",
    }
    for arm, label in head.items():
        cells = [_cell(arms[arm][c]["accuracy"]) for c in (AS_THEY_ARE, ALL)]
        lines.append(f"| {label} | {STATED[arm]} | {' | '.join(cells)} |")
    gains = [_cell(arms["augmented"][c]["gain"], sign="+") for c in (AS_THEY_ARE, ALL)]
    lines.append(f"| gain, each repeat against itself | +7 points | {' | '.join(gains)} |")
    lines += ["", *_by_condition(arms, "accuracy", _cell), ""]
    lines += ["Gain over real images alone, in points:", ""]
    lines += [
        *_by_condition(
            {arm: values for arm, values in arms.items() if arm != "real"},
            "gain",
            lambda spread: _cell(spread, sign="+", unit=""),
        ),
        "",
        _counts(report, count, names),
    ]
    return "\n".join(lines) + "\n"


def _by_condition(
    arms: Mapping[str, Any], key: str, cell: Callable[[Mapping[str, Any]], str]
) -> list[str]:
    conditions = (*CONDITIONS, ALL)
    lines = [
        "| trained on | " + " | ".join(conditions) + " |",
        "|--|" + "--:|" * len(conditions),
    ]
    for arm, label in ARMS.items():
        if arm in arms:
            cells = [cell(arms[arm][condition][key]) for condition in conditions]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def _counts(report: Mapping[str, Any], count: int, names: Sequence[str]) -> str:
    """Say what the figures are of, and what is not as it was planned."""
    plan = report["plan"]
    runs = [run for one in report["repeats"] for run in one["runs"]]
    told = [
        f"{count} of {how_many(plan['repeats'], 'repeat')}, {how_many(len(names), 'subject')}, "
        f"{how_many(plan['unseen'], 'unseen image')} of each under each condition; mean ± standard "
        "deviation over the repeats (n - 1)."
    ]
    if plan["loras"] < plan["repeats"]:
        told.append(
            f"{how_many(plan['loras'], 'LoRA')} and set of variations for each "
            "subject: the other repeats differ in unseen images and disturbances alone."
        )
    for key, label in (("real", "real"), ("synthetic", "undisturbed synthetic")):
        numbers = [run["images"].get(key, 0) for run in runs]
        if set(numbers) != {plan[key]}:
            told.append(
                f"Of {how_many(plan[key], f'{label} image')} a run, {min(numbers)} to "
                f"{max(numbers)} passed the curation."
            )
    wanted = round(plan["synthetic"] * plan["disturbed"])
    for kind in KINDS:
        numbers = [run["images"].get(f"copy {kind}", 0) for run in runs]
        if min(numbers) < wanted:
            told.append(
                f"Of {how_many(wanted, 'copy')} by {kind} alone, {min(min(numbers), wanted)} to "
                f"{min(max(numbers), wanted)} passed the curation."
            )
    identity = [run["identity"] for run in runs if run["identity"] is not None]
    if identity:
        told.append(
            f"Mean similarity of the synthetic images' faces to the real ones': "
            f"{mean(identity):.2f}."
        )
    return " ".join(told)


def _cell(spread: Mapping[str, Any], *, sign: str = "", unit: str = " %") -> str:
    """Write mean and deviation in percent."""
    value = f"{spread['mean'] * 100:{sign}.1f}"
    if spread["standard_deviation"] is not None:
        value += f" ± {spread['standard_deviation'] * 100:.1f}"
    return value + (" points" if sign and unit else unit)
